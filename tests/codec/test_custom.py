"""Codecs of the application, and pickle for those who opt in."""

from __future__ import annotations

import collections
import typing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from hybridcore.codec import MSGPACK, PICKLE, Codec, Codecs
from hybridcore.errors import ConfigurationError, DecodeError, EncodeError
from tests.codec.money import MONEY, Money

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = b"sixteen or more!"


CODECS = Codecs(MONEY)


@dataclass
class Point:
    x: Any
    y: Any = None


class Pair(typing.NamedTuple):
    left: Any
    right: Any = 2


class Bag(dict):
    """A subclass of a plain type."""


def never(*_: object) -> Any:
    raise AssertionError("application code ran")


def stored(value: object, codecs: Codecs = CODECS) -> tuple[int, bytes]:
    code, payload = codecs.encode(value)
    return code, b"".join(payload)


def round_trip(value: object, codecs: Codecs = CODECS) -> Any:
    return codecs.decode(*stored(value, codecs))


class TestCustomCodecs:
    """`Codec` adds a type, at the top and inside other values."""

    def test_top_level_code(self) -> None:
        """The record carries the codec's own number."""
        assert stored(Money(5)) == (64, b"5")

    @pytest.mark.parametrize("code", [0, 63, 256, -1, True, "64", 64.0])
    def test_codes_out_of_range(self, code: Any) -> None:
        """Applications own 64 to 255."""
        with pytest.raises(ConfigurationError, match="64 to 255"):
            Codec(code, Money, bytes, bytes)

    @pytest.mark.parametrize("kind", [dict, list, str, int, bytes, float, bool, type(None)])
    def test_plain_types_take_no_codec(self, kind: type) -> None:
        """Plain data never asks for a codec, so one for it would never be called."""
        with pytest.raises(ConfigurationError, match="plain data"):
            Codec(64, kind, bytes, bytes)

    def test_wrong_arguments(self) -> None:
        """What is no class, function or codec is told so."""
        wrong: list[Callable[[], object]] = [
            lambda: Codec(64, "Money", bytes, bytes),
            lambda: Codec(64, Money, None, bytes),
            lambda: Codecs(Money(1)),
            lambda: Codecs(Money),
            lambda: Codecs(MONEY, Codec(64, Bag, bytes, Bag)),
            lambda: Codecs(MONEY, Codec(65, Money, bytes, Money)),
            lambda: Codecs(pickle_key=b"too short"),
            lambda: Codecs(pickle_key="a str of some length"),
        ]
        for make in wrong:
            with pytest.raises(ConfigurationError):
                make()

    def test_two_classes_of_one_name(self) -> None:
        """Registered classes are told apart by their names."""
        twins = [type("Twin", (Pair,), {"__qualname__": "Twin"}) for _ in range(2)]
        with pytest.raises(ConfigurationError, match="two classes"):
            Codecs(*twins)

    def test_a_codec_may_take_over_a_type_that_is_stored_anyway(self) -> None:
        """The application knows better than the dataclass default."""
        codecs = Codecs(Codec(70, Point, lambda p: b"%d" % p.x, lambda data: Point(int(data))))
        assert stored(Point(1), codecs) == (70, b"1")

    def test_failures_are_errors_of_ours(self) -> None:
        """A codec that raises or returns nonsense is an EncodeError or DecodeError. Fault 17."""
        for encode in (never, lambda _: "text", lambda _: 5):
            codecs = Codecs(Codec(64, Money, encode, never))
            for value in (Money(1), [Money(1)]):
                with pytest.raises(EncodeError):
                    codecs.encode(value)
            with pytest.raises(DecodeError):
                codecs.decode(64, b"")
        wrong_type = Codecs(Codec(64, Money, lambda _: b"", lambda _: 5))
        with pytest.raises(DecodeError, match="expected to return Money, got int"):
            round_trip([Money(1)], wrong_type)

    def test_an_unknown_codec_is_a_decode_error(self) -> None:
        """A record of another version or application cannot be read, and says why. Fault 9."""
        for code in (5, 64, 255, 256, -1):
            with pytest.raises(DecodeError, match="unknown here"):
                Codecs().decode(code, b"5")
        with pytest.raises(DecodeError, match="codec 64 is unknown"):
            Codecs().decode(*stored([Money(1)]))


class TestPickle:
    """Pickle needs a key, and bytes that were not written with it are never unpickled."""

    CODECS = Codecs(pickle_key=KEY)

    @pytest.mark.parametrize(
        "value", [Bag(a=1), [collections.OrderedDict(a=1), {2}], range(3), Money(3), {1: range(2)}]
    )
    def test_takes_what_nothing_else_takes(self, value: object) -> None:
        """The value is pickled as a whole, and only then."""
        assert stored(value, self.CODECS)[0] == PICKLE
        restored = round_trip(value, self.CODECS)
        assert type(restored) is type(value)
        assert restored == value
        assert stored({1: (2,)}, self.CODECS)[0] == MSGPACK

    def test_values_that_contain_themselves(self) -> None:
        """Pickle can store them."""
        loop: list[object] = []
        loop.append(loop)
        restored = round_trip(loop, self.CODECS)
        assert restored[0] is restored

    def test_without_a_key(self) -> None:
        """A pickled record is unreadable for those who did not opt in."""
        with pytest.raises(DecodeError, match="opt in"):
            CODECS.decode(*stored(Bag(), self.CODECS))

    def test_tampering(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """One flipped bit anywhere, or another key, and nothing is unpickled. Fault 9."""
        code, payload = stored(Bag(a=1), self.CODECS)
        monkeypatch.setattr("pickle.loads", never)
        for i in range(len(payload)):
            damaged = bytearray(payload)
            damaged[i] ^= 1 << i % 8
            with pytest.raises(DecodeError, match="pickle_key"):
                self.CODECS.decode(code, memoryview(damaged))
        for cut in (b"", payload[:31], payload[:32], payload[:-1]):
            with pytest.raises(DecodeError, match="pickle_key"):
                self.CODECS.decode(code, cut)
        with pytest.raises(DecodeError, match="pickle_key"):
            Codecs(pickle_key=KEY[::-1]).decode(code, payload)

    def test_a_pickle_is_never_read_inside_another_value(self) -> None:
        """Only a whole record can be a pickle."""
        _, payload = stored(Bag(), self.CODECS)
        inside = msgspec.msgpack.encode([msgspec.msgpack.Ext(39, bytes([PICKLE]) + payload)])
        with pytest.raises(DecodeError, match="unknown here"):
            self.CODECS.decode(MSGPACK, inside)

    def test_what_cannot_be_pickled(self) -> None:
        """The error says that pickle was tried."""
        with pytest.raises(EncodeError, match="not even as a pickle"):
            self.CODECS.encode([lambda: 1])

    def test_the_key_is_never_shown(self) -> None:
        """Not in repr, and the codecs are."""
        shown = repr(Codecs(MONEY, Pair, pickle_key=KEY))
        assert "Money" in shown
        assert "Pair" in shown
        assert "secret" in shown
        assert KEY.decode() not in shown
