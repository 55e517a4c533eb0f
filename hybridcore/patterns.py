"""Key patterns: ``"repo:{owner}/{name}"`` says which keys are meant and what is in them."""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Iterator
from threading import Lock
from typing import Any, Generic, NamedTuple, TypeVar

from hybridcore.errors import ConfigurationError

T = TypeVar("T")

Pattern = str | tuple[Any, ...]
"""A pattern as it is written: of str keys a str, of tuple keys a tuple."""

Arguments = dict[str, Any]
Matcher = Callable[[Any], Arguments | None]

_PIECE = re.compile(r"\{\{|\}\}|\{(?P<field>[^{}]*)\}|(?P<star>\*)|(?P<brace>[{}])|[^{}*]+")
_SEPARATOR = re.compile("[:/]")
_HEAD = re.compile("[^:/]*[:/]").match
_MOST_FIELDS = 2

_ANYTHING, _PATH, _STR, _INT, _LITERAL = range(5)
"""Kinds of tokens, from the widest to the narrowest."""

_KINDS = {"path": _PATH, "str": _STR, "int": _INT}
_EXPRESSIONS = {
    _ANYTHING: ".*",
    _PATH: "(.+)",
    _STR: "([^:/]+)",
    _INT: "(0|-?[1-9][0-9]{0,600})",  # as str() writes it: no two keys give the same arguments
}
_ANY: Any = object()


class _Token(NamedTuple):
    """A piece of a pattern: literal text, or a field with its name ("" for ``*``)."""

    kind: int
    text: Any = ""
    name: str = ""


class KeyPattern:
    """Which keys are meant, compiled once.

    - ``{name}``: one character or more, but no ``:`` and no ``/``
    - ``{name:int}``: an int as ``str`` writes it, given as an int
    - ``{name:path}``: one character or more of any kind
    - ``*``: anything or nothing, not given
    - ``{{`` and ``}}``: the braces themselves; all else stands for itself

    A tuple is a pattern of tuples with as many elements. There, a ``{name}`` that is a whole
    element matches an element of any type and ``{name:int}`` an int. As the last element,
    ``{name:path}`` matches one or more, given as a tuple, and ``*`` any number of them.

    >>> KeyPattern("repo:{owner}/{number:int}").match("repo:python/7")
    {'owner': 'python', 'number': 7}
    >>> KeyPattern(("user", "{id:int}")).match(("user", 7))
    {'id': 7}
    >>> KeyPattern("repo:{owner}").match("user:ann") is None
    True

    Raises:
        ConfigurationError: the pattern is malformed; says what and where.
    """

    __slots__ = ("_elements", "_match", "_matchers", "_rest", "names", "pattern", "specificity")

    def __init__(self, pattern: Pattern) -> None:
        if not isinstance(pattern, (str, tuple)) or not pattern:
            raise ConfigurationError(
                'a key pattern is expected to be a str such as "repo:{owner}/{name}" or a tuple '
                f'such as ("user", "{{id:int}}"), got {pattern!r}'
            )
        self.pattern = pattern
        parts = (pattern,) if isinstance(pattern, str) else pattern
        self._elements = [_parse(part, pattern) for part in parts]
        tokens = [token for element in self._elements for token in element]
        names = [token.name for token in tokens if token.name]
        for name in names:
            if names.count(name) > 1:
                raise _malformed(pattern, f"the name {name!r} is given twice", "rename one of them")
        self.names = tuple(names)
        self._rest = -1  # elements that a tuple needs before any number of others
        if isinstance(pattern, str):
            self._match = _of_text(tokens)
        else:
            self._match = self._match_tuple
            self._matchers = [_of_element(element) for element in self._elements]
            for n, element in enumerate(self._elements):
                if len(element) == 1 and element[0].kind <= _PATH:
                    if n < len(self._elements) - 1:
                        raise _malformed(
                            pattern,
                            f"element {n} stands for any number of elements but is not the last",
                            'write "{name}" for a single element',
                        )
                    self._rest = n
        self.specificity: tuple[Any, ...] = (
            sum(_is_literal(element) for element in self._elements),
            sum(len(token.text) for token in tokens if isinstance(token.text, str)),
            -sum(token.kind <= _PATH for token in tokens),
            -len([token for token in tokens if token.kind < _LITERAL]),
            tuple(tuple((token.kind, repr(token.text)) for token in e) for e in self._elements),
        )
        """The greater one wins where two match; equal if they differ in the names only."""

    def match(self, key: object) -> Arguments | None:
        """Return what the key has in the fields, or None when it is not meant."""
        return self._match(key)

    def _match_tuple(self, key: object) -> Arguments | None:
        if not isinstance(key, tuple):
            return None
        if self._rest >= 0 and len(key) >= self._rest:
            key = (*key[: self._rest], key[self._rest :])
        if len(key) != len(self._matchers):
            return None
        arguments: Arguments = {}
        for matcher, element in zip(self._matchers, key, strict=True):
            found = matcher(element)
            if found is None:
                return None
            arguments |= found
        return arguments

    @property
    def literal(self) -> str | None:
        """The only key that matches, if the pattern is a str without fields."""
        first = self._elements[0]
        alone = isinstance(self.pattern, str) and _is_literal(first)
        return str(first[0].text) if alone else None

    def head(self) -> Any:
        """How every key that matches begins, as `PatternTable` files it; None: in several ways."""
        first = self._elements[0][0]
        if isinstance(self.pattern, tuple):
            return (first.text,) if _is_literal(self._elements[0]) else None
        found = _HEAD(first.text)
        return None if found is None else found[0]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KeyPattern) and self.pattern == other.pattern

    def __hash__(self) -> int:
        return hash(self.pattern)

    def __repr__(self) -> str:
        return f"KeyPattern({self.pattern!r})"


class PatternTable(Generic[T]):
    """Items by key pattern; of several patterns that match, the most specific one counts.

    That is the one with most literal text (whole elements of a tuple first), then with fewest
    ``{name:path}`` and ``*``, then with fewest fields, then the one that is narrower further left.

    A lookup tries the patterns whose literal beginning the key has. Threads may look up while one
    changes the table.

    >>> table = PatternTable[str]()
    >>> table.add("user:{id:int}", "a user")
    >>> table.add("user:me", "myself")
    >>> table.find("user:7"), table.find("user:me"), table.find("repo:x")
    (('a user', {'id': 7}), ('myself', {}), None)
    """

    __slots__ = ("_heads", "_items", "_lock", "_others", "_texts")

    def __init__(self) -> None:
        self._lock = Lock()
        self._items: dict[KeyPattern, T] = {}
        self._file()

    def add(self, pattern: Pattern | KeyPattern, item: T) -> None:
        """Add an item.

        Raises:
            ConfigurationError: the pattern is malformed, or one that matches the same keys is
                there already; nothing was changed.
        """
        if not isinstance(pattern, KeyPattern):
            pattern = KeyPattern(pattern)
        with self._lock:
            for other in self._items:
                if other.specificity == pattern.specificity:
                    raise ConfigurationError(
                        f"the key patterns {other.pattern!r} and {pattern.pattern!r} match the "
                        "same keys, so nobody could tell which one counts: remove one of them"
                    )
            self._items = {**self._items, pattern: item}
            self._file()

    def remove(self, pattern: Pattern) -> T:
        """Remove the item that was added with this pattern and return it.

        Raises:
            KeyError: there is none.
        """
        with self._lock:
            rest = dict(self._items)
            item = rest.pop(KeyPattern(pattern))
            self._items = rest
            self._file()
        return item

    def find(self, key: object) -> tuple[T, Arguments] | None:
        """Return the item of the most specific pattern that matches, and what it found."""
        if isinstance(key, str):
            exact = self._texts.get(key)
            if exact is not None:
                return exact[0], {}
            found = _HEAD(key)
            head: Any = None if found is None else found[0]
        else:
            head = key[:1] if isinstance(key, tuple) else None
        for match, item in self._heads.get(head, self._others):
            arguments = match(key)
            if arguments is not None:
                return item, arguments
        return None

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[tuple[Pattern, T]]:
        """The patterns with their items, in the order in which they were added."""
        return iter([(pattern.pattern, item) for pattern, item in self._items.items()])

    def __repr__(self) -> str:
        return f"PatternTable({dict(self)!r})"

    def _file(self) -> None:
        """File the items anew; whoever is looking up goes on with the old ones."""
        items = sorted(self._items.items(), key=lambda entry: entry[0].specificity, reverse=True)
        self._texts = {
            text: (item,) for pattern, item in items if (text := pattern.literal) is not None
        }
        filed = [
            (pattern.head(), pattern._match, item)
            for pattern, item in items
            if pattern.literal is None
        ]
        self._others = [(match, item) for head, match, item in filed if head is None]
        self._heads = {
            wanted: [(match, item) for head, match, item in filed if head in (None, wanted)]
            for wanted in {head for head, _, _ in filed}
        }


def _parse(element: Any, pattern: Pattern) -> list[_Token]:
    """Take an element of a pattern apart."""
    if not isinstance(element, str):
        return [_Token(_LITERAL, element)]
    tokens: list[_Token] = []
    in_part = 0  # fields since the last separator
    for piece in _PIECE.finditer(element):
        at = f"at {piece.start()} of {element!r}"
        if piece["brace"]:
            raise _malformed(
                pattern,
                f"the {piece[0]} {at} has no counterpart",
                f"write {piece[0] * 2} for the character itself",
            )
        if piece["field"] is None and piece["star"] is None:
            text = piece[0][:1] if piece[0] in ("{{", "}}") else piece[0]
            if tokens and tokens[-1].kind == _LITERAL:
                tokens[-1] = _Token(_LITERAL, tokens[-1].text + text)
            else:
                tokens.append(_Token(_LITERAL, text))
            if _SEPARATOR.search(text):
                in_part = 0
            continue
        token = _Token(_ANYTHING) if piece["star"] else _field(piece["field"], at, pattern)
        if tokens and tokens[-1].kind < _LITERAL:
            raise _malformed(
                pattern,
                f"the {piece[0]} {at} follows another field, so nobody could tell where one ends",
                "put some text between them",
            )
        if token.kind <= _PATH and any(other.kind <= _PATH for other in tokens):
            raise _malformed(
                pattern,
                f"the {piece[0]} {at} is the second one that may contain separators",
                "use {name}, which ends at : and /, for all but one of them",
            )
        in_part += 1
        if in_part > _MOST_FIELDS:
            raise _malformed(
                pattern,
                f"the {piece[0]} {at} is the third field without a : or / between them, which "
                "takes long to match",
                "put a : or / between them, or take them together as one field",
            )
        tokens.append(token)
    return tokens or [_Token(_LITERAL)]


def _field(text: str, at: str, pattern: Pattern) -> _Token:
    name, colon, kind = text.partition(":")
    if not name.isidentifier() or keyword.iskeyword(name):
        raise _malformed(
            pattern,
            f"the field {{{text}}} {at} has no name that an argument could have",
            "write {name}, or * for anything unnamed",
        )
    if not colon:
        kind = "str"
    if kind not in _KINDS:
        raise _malformed(
            pattern,
            f"the field {{{text}}} {at} is of a kind that does not exist",
            f"write {{{name}}}, {{{name}:int}} or {{{name}:path}}",
        )
    return _Token(_KINDS[kind], name=name)


def _is_literal(tokens: list[_Token]) -> bool:
    return all(token.kind == _LITERAL for token in tokens)


def _of_text(tokens: list[_Token]) -> Matcher:
    """What matches str, all of it."""
    fullmatch = re.compile(
        "".join(
            re.escape(token.text) if token.kind == _LITERAL else _EXPRESSIONS[token.kind]
            for token in tokens
        ),
        re.DOTALL,
    ).fullmatch
    fields = [(token.name, token.kind == _INT) for token in tokens if token.name]

    def match(key: object) -> Arguments | None:
        found = fullmatch(key) if isinstance(key, str) else None
        if found is None:
            return None
        return {
            name: int(text) if is_int else text
            for (name, is_int), text in zip(fields, found.groups(), strict=True)
        }

    return match


def _of_element(tokens: list[_Token]) -> Matcher:
    """What matches an element of a tuple."""
    kind, text, name = tokens[0]
    if _is_literal(tokens):
        return lambda element: {} if element == text else None
    if len(tokens) > 1:
        return _of_text(tokens)
    if kind == _ANYTHING:
        return lambda element: {}
    if kind != _INT:
        return lambda element: None if element == () and kind == _PATH else {name: element}
    return lambda element: (
        {name: element} if isinstance(element, int) and not isinstance(element, bool) else None
    )


def _malformed(pattern: Pattern, what: str, way_out: str) -> ConfigurationError:
    return ConfigurationError(f"the key pattern {pattern!r} is malformed: {what}; {way_out}")
