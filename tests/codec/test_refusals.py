"""A value that would come back changed is refused, with its type and the way out."""

from __future__ import annotations

import collections
import sys
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo
from functools import cached_property
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import pytest

from hybridcore._native import MAX_DEPTH
from hybridcore.codec import Codec, Codecs
from hybridcore.errors import EncodeError

if TYPE_CHECKING:
    from collections.abc import Callable

CODECS = Codecs()


@dataclass
class Point:
    x: Any
    y: Any = None


@dataclass(frozen=True, slots=True, eq=True)
class Frozen:
    x: Any
    derived: int = field(default=0, init=False)


class Named(collections.namedtuple("NamedBase", "a b")):  # the old spelling counts too
    def total(self) -> int:
        return self.a + self.b


@dataclass
class Later:
    n: int


@dataclass
class Cached:
    x: int

    @cached_property
    def double(self) -> int:
        return 2 * self.x


class Bag(dict):
    """A subclass of a plain type."""


@dataclass
class DictData(dict):
    x: int = 0


@dataclass
class Descriptive:
    class Watched:
        def __get__(self, *_: object) -> int:
            return 1

        def __set__(self, *_: object) -> None:
            """Hear of every change."""

    x: int = Watched()


class Undecorated(Point):
    """Inherits the fields, but is no dataclass itself."""


@dataclass
class Unset:
    x: int = field(init=False)


def with_attribute(value: Any) -> Any:
    value.extra = 1
    return value


def stored(value: object, codecs: Codecs = CODECS) -> tuple[int, bytes]:
    code, payload = codecs.encode(value)
    return code, b"".join(payload)


def round_trip(value: object, codecs: Codecs = CODECS) -> Any:
    return codecs.decode(*stored(value, codecs))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (object(), "builtins.object"),
        (collections.OrderedDict(a=1), "collections.OrderedDict"),
        (Bag(), "Bag"),
        (type("Text", (str,), {})("x"), "Text"),
        (range(3), "range"),
        (memoryview(b"x"), "memoryview"),
        (PurePosixPath("x"), "PurePosixPath"),
        (DictData(), "on top of a built-in type"),
        (Descriptive(), "computed by a descriptor"),
        (Undecorated(1), "Undecorated"),
        (with_attribute(Point(1)), "attribute extra"),
        (with_attribute(Named(1, 2)), "attribute extra"),
        (Unset(), "a field is not set"),
        (lambda: 1, "function"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_type_and_way_out(value: object, said: str) -> None:
    """The error names the type and what to do, wherever in the tree the value is."""
    for tree in (value, [value], ({"k": (value,)},), Point(value)):
        with pytest.raises(EncodeError, match=said) as caught:
            CODECS.encode(tree)
        assert "Codecs(Codec(" in str(caught.value)
        assert "Codecs(pickle_key=" in str(caught.value)


def test_local_classes() -> None:
    """A class inside a function cannot be found again, unless it was registered."""

    @dataclass
    class Local:
        x: int

    with pytest.raises(EncodeError, match=r"inside a function.*Codecs\(Local\)"):
        CODECS.encode(Local(1))
    assert round_trip(Local(1), Codecs(Local)) == Local(1)


def test_shadowed_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A class whose name now leads to another one is refused rather than confused with it."""
    old = Point(1)
    monkeypatch.setattr(sys.modules[__name__], "Point", Frozen)
    with pytest.raises(EncodeError, match="leads to something else"):
        CODECS.encode(old)


def test_a_remembered_cached_property_is_no_obstacle() -> None:
    """It is computed again after reading."""
    value = Cached(2)
    assert value.double == 4
    assert vars(round_trip(value)) == {"x": 2}


def test_foreign_time_zones() -> None:
    """Only zones that come back the same are stored."""

    class Zone(tzinfo):
        def utcoffset(self, _: datetime | None) -> timedelta:
            return timedelta(0)

    with pytest.raises(EncodeError, match=r"Zone.*zoneinfo"):
        CODECS.encode(datetime(2020, 1, 1, tzinfo=Zone()))


def test_values_that_contain_themselves() -> None:
    """They end in an error, not in a crash."""
    loop: list[object] = []
    loop += [loop, loop]
    mapping: dict[str, object] = {}
    mapping["self"] = (mapping,)
    point = Point(1)
    point.y = {"point": point}
    for value in (loop, mapping, point, (loop,)):
        with pytest.raises(EncodeError, match="contains itself"):
            CODECS.encode(value)


@pytest.mark.parametrize("wrap", [lambda v: [v], lambda v: (v,), lambda v: {(1,): v}, Point])
def test_depth(wrap: Callable[[object], object]) -> None:
    """128 levels come back; far more are refused, and never a crash."""
    value: object = (1,)
    for _ in range(MAX_DEPTH - 1):
        value = wrap(value)
    assert stored(round_trip(value)) == stored(value)
    for _ in range(3 * MAX_DEPTH):
        value = wrap(value)
    with pytest.raises(EncodeError, match="128 levels"):
        CODECS.encode(value)


def test_mutation_while_encoding() -> None:
    """A codec that changes the very containers being stored does no harm. Fault 17."""
    mapping: dict[object, object] = {}
    values: list[object] = []

    def encode(money: Later) -> bytes:
        mapping[len(mapping)] = values
        values.clear()
        return b"1"

    codecs = Codecs(Codec(64, Later, encode, lambda _: Later(1)))
    mapping.update(a=values, b=Later(1))
    values += [Later(1), (Later(2),), Later(3)]
    assert round_trip(mapping, codecs)["b"] == Later(1)
