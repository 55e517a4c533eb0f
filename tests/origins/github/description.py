"""GitHub's published descriptions of its APIs, and whether an exchange keeps to them.

They are packages of npm, fetched once into pytest's cache; what of them is about other endpoints is
cut away.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from types import SimpleNamespace

from graphql import build_schema, parse, validate
from openapi_core import Config, OpenAPI
from openapi_core.datatypes import RequestParameters
from werkzeug.datastructures import Headers, ImmutableMultiDict

from tests.npm import keep, packed

REST = "@octokit/openapi@23.0.2"
GRAPHQL = "@octokit/graphql-schema@15.26.1"

REPO = "/repos/{owner}/{repo}"
PATHS = (
    REPO,
    f"{REPO}/contents/{{path}}",
    f"{REPO}/git/trees/{{tree_sha}}",
    f"{REPO}/git/blobs/{{file_sha}}",
    f"{REPO}/issues",
    f"{REPO}/issues/{{issue_number}}",
    f"{REPO}/releases",
    "/rate_limit",
)
RAW = "application/vnd.github.raw+json"
OBJECT = "application/vnd.github.object"
GENERAL = (304, 401, 403, 404, 429, 500, 502, 503)
"""Statuses that any endpoint may answer; the description tells of most only in its prose."""


def read(directory):
    """Return the description, fetched unless it was before."""
    rest = directory / f"{REST.rpartition('@')[2]}.json"
    if not rest.exists():
        document = cut(json.loads(packed(REST, "generated/api.github.com.json")))
        keep(rest, json.dumps(document).encode())
    schema = directory / f"{GRAPHQL.rpartition('@')[2]}.graphql"
    if not schema.exists():
        keep(schema, packed(GRAPHQL, "schema.graphql"))
    return Description(json.loads(rest.read_bytes()), schema.read_text())


def cut(document):
    """Return a description with our paths alone, and what they refer to."""
    kept = {"openapi": document["openapi"], "info": {"title": "GitHub", "version": "1"}}
    kept["servers"] = [{"url": "https://api.github.com"}]
    kept["paths"] = {path: document["paths"][path] for path in PATHS}
    for item in kept["paths"].values():
        for operation in item.values():
            operation.pop("callbacks", None)
            for status, answer in operation["responses"].items():
                for content in answer.get("content", {}).values():
                    content.pop("examples", None)
                    schema = content["schema"]
                    schema.pop("discriminator", None)  # arrays have no properties
                    if status >= "400" and "oneOf" in schema:  # of errors all kinds overlap
                        schema["anyOf"] = schema.pop("oneOf")
    kept["components"] = {}
    todo = [kept["paths"]]
    while todo:
        for reference in re.findall(r'"#/components/([^"]+)"', json.dumps(todo.pop())):
            kind, name = reference.split("/")
            section = kept["components"].setdefault(kind, {})
            if name not in section and kind != "examples":
                section[name] = document["components"][kind][name]
                todo.append(section[name])
    kept["components"].pop("examples", None)
    return kept


class Description:
    """What requests and answers have to look like."""

    def __init__(self, document, schema):
        self.document = document
        config = Config(extra_media_type_deserializers={OBJECT: json.loads})
        self.openapi = OpenAPI.from_dict(document, config=config)
        self.schema = build_schema(schema, assume_valid=True)

    def check(self, asked):
        """Raise unless an exchange keeps to the description."""
        if asked.path == "/graphql":
            query = json.loads(asked.body)["query"]
            errors = validate(self.schema, parse(query))
            assert not errors, errors
            return
        request = Request.of(asked)
        reply = asked.reply
        self.openapi.validate_request(request)
        operation = self._operation(request)
        if reply.status in GENERAL and str(reply.status) not in operation["responses"]:
            if reply.status == 304:
                assert not reply.body
            else:
                document = json.loads(reply.body)
                assert set(document) <= {"message", "documentation_url", "status", "errors"}
            return
        if RAW in reply.headers.get("Content-Type", "") and reply.status == 200:
            assert RAW in operation["description"]
            return
        self.openapi.validate_response(request, Response.of(reply))

    def _operation(self, request):
        for path, item in self.document["paths"].items():
            pattern = re.sub(r"\{[^}]+\}", "[^/]+", path)
            if re.fullmatch(pattern, request.path):
                return item[request.method]
        raise AssertionError(f"{request.path} is not described")


@dataclass
class Request:
    """A request as openapi-core reads it."""

    host_url: str
    path: str
    full_url_pattern: str
    method: str
    body: bytes | None
    content_type: str
    parameters: RequestParameters

    @classmethod
    def of(cls, asked):
        path = asked.path
        head, contents, rest = path.partition("/contents/")
        if contents:  # a parameter of several segments, of which OpenAPI 3.0 knows nothing
            path = head + contents + (rest.replace("/", "%2F") or "%2F")
        return cls(
            host_url="https://api.github.com",
            path=path,
            full_url_pattern="https://api.github.com" + path,
            method=asked.method.lower(),
            body=asked.body or None,
            content_type=asked.headers.get("content-type", ""),
            parameters=RequestParameters(
                query=ImmutableMultiDict(asked.query),
                header=Headers(dict(asked.headers)),
                cookie=ImmutableMultiDict(),
            ),
        )


class Response(SimpleNamespace):
    """A reply as openapi-core reads it."""

    @classmethod
    def of(cls, reply):
        content_type = reply.headers.get("Content-Type", "").partition(";")[0]
        if "param=object" in reply.headers.get("X-Github-Media-Type", ""):
            content_type = OBJECT
        return cls(
            data=reply.body,
            status_code=reply.status,
            content_type=content_type,
            headers=Headers(reply.headers),
        )
