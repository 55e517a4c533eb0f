"""That the exchanges of all these tests are held against GitHub's published descriptions."""

from __future__ import annotations

from dataclasses import replace

import pytest
from openapi_core.exceptions import OpenAPIError


def test_an_exchange_is_checked(described, github, make, call):
    """What the origin sends, and what is answered, keeps to the description; else it is told."""
    origin = make(github, writable=True)
    call(origin, "load", "docs/")
    call(origin, "store", "docs/new.md", "New")
    call(origin, "load_many", ["README.md", "docs/index.md"])
    directory, _, write, query = github.seen
    for asked in (directory, write, query):
        described.check(asked)
    with pytest.raises(OpenAPIError):
        described.check(replace(directory, reply=replace(directory.reply, body=b'{"type": 7}')))
    with pytest.raises(OpenAPIError):
        described.check(replace(write, body=b"{}"))
    with pytest.raises(AssertionError):
        described.check(replace(query, body=query.body.replace(b"isTruncated", b"isTrunkated")))
