"""What a Redis URL says: where the servers are, how they are arranged, and what may be shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from hybridcore.errors import ConfigurationError

Kind = Literal["single", "sentinel", "cluster"]

_SCHEMES: dict[str, tuple[Kind, int]] = {
    "redis": ("single", 6379),
    "unix": ("single", 0),
    "redis+sentinel": ("sentinel", 26379),
    "redis+cluster": ("cluster", 6379),
    "rediss": ("single", 6379),
    "rediss+sentinel": ("sentinel", 26379),
    "rediss+cluster": ("cluster", 6379),
}
_TLS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """A Redis URL taken apart; ``options`` are redis-py's, secrets among them."""

    kind: Kind
    hosts: tuple[tuple[str, int], ...]
    service: str | None
    shown: str
    options: dict[str, Any] = field(repr=False)
    has_tls: bool = False


def parse(url: str) -> RedisUrl:
    """Take a URL apart.

    Raises:
        ConfigurationError: it is none of the known ones; the message does not show its secrets.
    """
    scheme, separator, rest = url.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in _SCHEMES:
        raise ConfigurationError(
            f"a Redis URL is expected to begin with one of {', '.join(_SCHEMES)}, got "
            f"{scheme if separator else 'one without a scheme'!r}"
        )
    kind, default_port = _SCHEMES[scheme]
    authority, path, query = _parts(rest)
    credentials, _, hosts = authority.rpartition("@")
    user, _, password = credentials.partition(":")
    options: dict[str, Any] = {}
    if user:
        options["username"] = unquote(user)
    if password:
        options["password"] = unquote(password)
    has_tls = scheme.startswith("rediss")
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name == "db":
            options["db"] = _database(value)
        elif has_tls and name in _TLS:
            options[name] = value.lower() == "true" if name == "ssl_check_hostname" else value
        else:
            raise ConfigurationError(
                f"a Redis URL takes db{', ' + ', '.join(_TLS) if has_tls else ''} as a query, got "
                f"{name!r}; give the rest as arguments"
            )
    if scheme == "unix":
        options["path"] = unquote(path)
        if not path.strip("/"):
            raise ConfigurationError("a unix:// URL is expected to have the path of a socket")
        return RedisUrl(kind, (), None, f"unix://{path}", options)
    places = tuple(_place(host, default_port) for host in hosts.split(","))
    if kind == "single" and len(places) > 1:
        raise ConfigurationError(
            f"{scheme}:// is expected to have one host, got {len(places)}; "
            "use redis+cluster:// or redis+sentinel://"
        )
    segments = [unquote(segment) for segment in path.split("/") if segment]
    service = None
    if kind == "sentinel":
        if not segments:
            raise ConfigurationError(
                "a Sentinel URL is expected to end with the name of the service, as in "
                "redis+sentinel://host:26379/service"
            )
        service = segments.pop(0)
    if segments:
        options["db"] = _database(segments.pop(0))
    if segments or (kind == "cluster" and options.get("db")):
        raise ConfigurationError(
            "a Redis Cluster has database 0 only"
            if kind == "cluster"
            else "a Redis URL is expected to end with the number of the database"
        )
    shown = f"{scheme}://{','.join(f'{host}:{port}' for host, port in places)}"
    shown += "".join(f"/{part}" for part in (service, options.get("db")) if part is not None)
    return RedisUrl(kind, places, service, shown, options, has_tls)


def _parts(rest: str) -> tuple[str, str, str]:
    rest, _, query = rest.partition("?")
    credentials, at, rest = rest.rpartition("@")
    hosts, slash, path = rest.partition("/")
    return credentials + at + hosts, slash + path, query


def _place(host: str, default_port: int) -> tuple[str, int]:
    try:
        split = urlsplit(f"//{host}")
        port = split.port
    except ValueError:
        port, split = -1, urlsplit("//")
    if not host:
        return "localhost", default_port
    if not split.hostname or port == -1:
        raise ConfigurationError(
            "a Redis URL is expected to have host:port after the scheme and the credentials, and "
            "this one has no such place"
        )
    return split.hostname, port or default_port


def _database(text: str) -> int:
    if not text.isdecimal():
        raise ConfigurationError(f"a Redis database is expected to be a number, got {text!r}")
    return int(text)
