"""URL templates: the address of a key, its parts percent-encoded where the fields stand."""

from __future__ import annotations

from string import Formatter
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from hybridcore.errors import ConfigurationError, OriginError
from hybridcore.origins import http_rules as rules
from hybridcore.patterns import KeyPattern, Pattern

if TYPE_CHECKING:
    from collections.abc import Mapping

_KINDS = ("", "str", "int", "path")
"""What may follow the colon in a field, as in a key pattern."""


class UrlTemplate:
    """An address with fields, such as ``https://api.example.com/repos/{owner}/{name}?v=1``.

    Fields are those of a key pattern: ``{name}``, ``{name:int}``, and ``{name:path}``, of which
    the slashes stay as they are. All else in a value is percent-encoded. The host has no fields.

    >>> template = UrlTemplate("https://h/repos/{owner}/{number:int}")
    >>> template.base.geturl(), template.address(("a/b", 7))
    ('https://h/repos/', 'https://h/repos/a%2Fb/7')
    >>> UrlTemplate("https://h/repos/{owner}", "repo:{owner}").address("repo:python")
    'https://h/repos/python'

    Args:
        template: the address.
        keys: a key pattern that has the fields by their names. Without it the key of one field is
            its value, and the key of several a tuple of their values.

    Raises:
        ConfigurationError: one of the two is malformed, or they do not fit together.
    """

    def __init__(self, template: str, keys: Pattern | None = None) -> None:
        try:
            pieces = list(Formatter().parse(template))
        except ValueError as error:
            raise ConfigurationError(f"the URL template is malformed: {error}") from None
        self._pieces = [
            (text, None if name is None else _field(name, kind, conversion))
            for text, name, kind, conversion in pieces
        ]
        self.fields = tuple(field[0] for _, field in self._pieces if field is not None)
        head = ""
        for text, field in self._pieces:
            head += text
            if field is not None:
                break
        start = head.partition("?")[0].rpartition("/")
        base = start[0] + start[1]
        if base.count("/") < 3:
            raise ConfigurationError(
                "a URL template is expected to begin with http://host/ or https://host/ before "
                f"its first field, got {base!r}"
            )
        self.base = rules.checked_base(base)
        self._skip = len(base)
        self._keys = None if keys is None else KeyPattern(keys)
        if self._keys is not None and not set(self.fields) <= set(self._keys.names):
            unknown = sorted(set(self.fields) - set(self._keys.names))
            raise ConfigurationError(
                f"the URL template has the fields {unknown}, which the key pattern {keys!r} lacks"
            )

    def address(self, key: object) -> str:
        """Return the address of a key.

        Raises:
            OriginError: it has none, or one that leads out of its place.
        """
        return self.filled(self._arguments(key))

    def filled(self, arguments: Mapping[str, Any], safe: str = "") -> str:
        """Return the address with these values in its fields; ``safe`` is not encoded in them."""
        parts = []
        for text, field in self._pieces:
            parts.append(text)
            if field is not None:
                parts.append(_encoded(*field, arguments[field[0]], safe))
        return rules.address(self.base, "".join(parts)[self._skip :])

    def _arguments(self, key: object) -> Mapping[str, Any]:
        if self._keys is not None:
            found = self._keys.match(key)
            if found is None:
                raise OriginError(f"key {key!r} does not match {self._keys.pattern!r}")
            return found
        values = key if isinstance(key, tuple) else (key,)
        names = tuple(dict.fromkeys(self.fields))
        if len(values) != len(names):
            raise OriginError(
                f"a key of the fields {', '.join(names)} is expected to be "
                f"{'its value' if len(names) == 1 else f'a tuple of {len(names)}'}, got {key!r}"
            )
        return dict(zip(names, values, strict=True))


def text_of(value: object, what: str = "a key") -> str:
    """Return a str or an int as it is written in an address.

    Raises:
        OriginError: it is something else, or empty.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str) and value:
        return value
    raise OriginError(f"{what} is expected to be a str that is not empty or an int, got {value!r}")


def _field(name: str, kind: str | None, conversion: str | None) -> tuple[str, str]:
    kind = kind or ""
    if not name.isidentifier() or kind not in _KINDS or conversion:
        raise ConfigurationError(
            f"the URL template has a field {{{name}}} that is malformed: write {{name}}, "
            "{name:int} or {name:path}, and {{ or }} for the braces themselves"
        )
    return name, kind


def _encoded(name: str, kind: str, value: object, safe: str) -> str:
    text = text_of(value, f"the field {{{name}}}")
    if kind == "int" and not isinstance(value, int):
        raise OriginError(f"the field {{{name}:int}} is expected to be an int, got {value!r}")
    try:
        return quote(text, safe="/" if kind == "path" else safe)
    except UnicodeEncodeError as error:
        raise OriginError(f"key {value!r} has no UTF-8 form, so it has no address") from error
