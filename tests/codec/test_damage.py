"""No bytes can harm a reader: a value, or a DecodeError, in proportionate memory."""

from __future__ import annotations

import contextlib
import enum
import gc
import importlib.util
import subprocess
import sys
import tracemalloc
import typing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridcore._native import is_well_formed
from hybridcore.codec import ARRAY, MSGPACK, PICKLE, Codecs
from hybridcore.errors import DecodeError
from tests.codec.money import MONEY

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = b"sixteen or more!"


CODECS = Codecs(MONEY, pickle_key=KEY)


def never(*_: object) -> Any:
    raise AssertionError("application code ran")


@dataclass
class Point:
    x: Any
    y: Any = None


@dataclass
class Loud:
    """Runs code wherever a dataclass can, which reading one back must not do."""

    x: int

    @classmethod
    def quiet(cls, x: int) -> Loud:
        loud = object.__new__(cls)
        loud.__dict__["x"] = x
        return loud

    __new__ = never
    __post_init__ = never
    __setattr__ = never


class Row(msgspec.Struct):
    a: Any
    b: Any = msgspec.UNSET


class LoudRow(msgspec.Struct, frozen=True, cache_hash=True):
    a: int

    def __post_init__(self) -> None:
        if self.a == 13:
            never()


class Pair(typing.NamedTuple):
    left: Any
    right: Any = 2


class Colour(enum.Enum):
    RED = "r"
    CRIMSON = "r"  # noqa: PIE796  # an alias, on purpose
    GREEN = (0, 255, 0)


class Mode(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()


def stored(value: object, codecs: Codecs = CODECS) -> tuple[int, bytes]:
    code, payload = codecs.encode(value)
    return code, b"".join(payload)


def round_trip(value: object, codecs: Codecs = CODECS) -> Any:
    return codecs.decode(*stored(value, codecs))


def packed(*parts: object, code: int = 16) -> bytes:
    """Stored bytes that name a class."""
    return msgspec.msgpack.encode(msgspec.msgpack.Ext(code, msgspec.msgpack.encode(list(parts))))


HERE = f"{__name__}:"


class TestClasses:
    """Stored bytes name classes, and cannot make the reader import or run anything."""

    def test_no_constructor_runs(self) -> None:
        """Reading an instance runs none of its class's own code."""
        assert round_trip(Loud.quiet(3)).x == 3
        payload = stored(LoudRow(7))[1].replace(b"\xa1a\x07", b"\xa1a\x0d")
        row = CODECS.decode(MSGPACK, payload)
        assert row.a == 13
        assert hash(row) == hash(round_trip(row))
        with pytest.raises(AssertionError):
            LoudRow(13)

    def test_rebuilt_structs_live_like_others(self) -> None:
        """The garbage collector sees a rebuilt Struct, also one that is part of a cycle."""
        row = round_trip(Row([1]))
        row.a.append(row)
        assert gc.is_tracked(row)
        del row
        assert gc.collect() > 0

    @pytest.mark.parametrize(
        ("payload", "said"),
        [
            (packed("no.such.module:Point", "x", 1), "no class no.such.module:Point"),
            (packed(HERE + "Missing", "x", 1), "no class"),
            (packed(HERE + "Point"), "has"),
            (packed(HERE + "Point", "x", 1), "fields"),
            (packed(HERE + "Point", "x", 1, "y", 2, "z", 3), "fields"),
            (packed(HERE + "Point", "y", 1, "x", 2), "fields"),
            (packed(HERE + "Point", "x", 1, "y"), "fields"),
            (packed(HERE + "Point", "x", 1, "y", 2, code=17), "no longer the kind"),
            (packed(HERE + "Money", "cents", 1), "Money"),
            (packed(HERE + "KEY", "x", 1), "no class"),
            (packed(HERE + "Colour", "BLUE", code=19), "no member"),
            (packed(HERE + "Colour", "__class__", code=19), "no member"),
            (packed(HERE + "Colour", 1, code=19), "no member"),
            (packed(HERE + "Mode", 64, code=19), "64"),
            (packed("msgspec:Struct", code=17), "Struct"),
            (packed("builtins:dict", "x", 1), "dict"),
            (packed("subprocess:Popen", "args", "true"), "Popen"),
            (packed(5, "x", 1), "int"),
            (packed(), "index"),
            (packed([], 1), "list"),
        ],
    )
    def test_wrong_names_and_fields(self, payload: bytes, said: str) -> None:
        """A class that is gone, changed, or was never of that kind is a DecodeError. Fault 9."""
        with pytest.raises(DecodeError, match=said):
            CODECS.decode(MSGPACK, payload)

    @pytest.mark.parametrize(
        "payload",
        [
            packed(2020, 1, 1, 0, 0, 0, 0, 0, "../../../etc/passwd", code=5),
            packed(2020, 1, 1, 0, 0, 0, 0, 0, "Europe", code=5),
            packed(2020, 1, 1, 0, 0, 0, 0, 0, "No/Where", code=5),
            packed(2020, 1, 1, 0, 0, 0, 0, 0, 10**18, code=5),
            packed(2020, 13, 1, code=6),
            packed(25, 0, 0, 0, 0, None, code=7),
            packed(10**18, 0, 0, code=8),
            packed(1, 0, code=9),
            packed([], 1, code=4),
            packed(1, code=4),
            packed({}, code=2),
            packed(1, code=31),
        ],
    )
    def test_wrong_parts(self, payload: bytes) -> None:
        """Parts that make no date, fraction, dict or set are a DecodeError. Fault 8."""
        with pytest.raises(DecodeError):
            CODECS.decode(MSGPACK, payload)

    def test_nothing_is_imported(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Neither a module that was not imported, nor a lazy one that is still to be loaded."""
        assert "this" not in sys.modules
        with pytest.raises(DecodeError):
            CODECS.decode(MSGPACK, packed("this:d", "x", 1))
        assert "this" not in sys.modules
        spec = importlib.util.find_spec("antigravity")
        assert spec is not None
        assert spec.loader is not None
        spec.loader = importlib.util.LazyLoader(spec.loader)
        lazy = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "antigravity", lazy)
        spec.loader.exec_module(lazy)
        with pytest.raises(DecodeError):
            CODECS.decode(MSGPACK, packed("antigravity:fly", "x", 1))
        assert type(lazy).__name__ == "_LazyModule"


def peak_bytes(work: Callable[[], object]) -> int:
    with contextlib.suppress(DecodeError):
        work()  # the first call of all imports numpy, which is not what is measured
    tracemalloc.start()
    try:
        work()
    except DecodeError:
        pass
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return peak


EVIL_NAMES = ["builtins:dict", "msgspec:Struct", "enum:Flag", "re:RegexFlag", "typing:NamedTuple"]
EVIL = st.recursive(
    st.none() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.binary(max_size=20)
    | st.text(max_size=5) | st.sampled_from([HERE + n for n in dir(sys.modules[__name__])])
    | st.sampled_from([*EVIL_NAMES, "|O", "<f8", "names", "x", "a", "C", "scalar"]),
    lambda inner: st.one_of(
        st.lists(inner, max_size=6),
        st.dictionaries(st.integers(-9, 9) | st.text(max_size=3), inner, max_size=3),
        st.builds(
            lambda code, tree: msgspec.msgpack.Ext(code, msgspec.msgpack.encode(tree)),
            st.integers(0, 20) | st.integers(-128, 127),
            inner,
        ),
        st.builds(
            msgspec.msgpack.Ext, st.integers(32, 40) | st.integers(-128, -1), st.binary(max_size=20)
        ),
    ),
    max_leaves=12,
)  # fmt: skip


def read_safely(code: int, payload: bytes) -> None:
    """Read it: either a value or a DecodeError."""
    for copy in (True, False):
        with contextlib.suppress(DecodeError):
            CODECS.decode(code, memoryview(payload), copy=copy)


class TestDamage:
    """Whatever the bytes, reading gives a value or a DecodeError, in proportionate memory."""

    @given(st.integers(0, 255) | st.sampled_from([MSGPACK, ARRAY, PICKLE]), st.binary())
    def test_random_bytes(self, code: int, payload: bytes) -> None:
        """Bytes that nobody wrote. Fault 8."""
        read_safely(code, payload)

    @given(EVIL)
    def test_well_formed_nonsense(self, tree: object) -> None:
        """MessagePack that no encoder of ours writes, extensions and class names included."""
        read_safely(MSGPACK, msgspec.msgpack.encode(tree))

    @given(EVIL, st.lists(st.integers(-5, 2**64 - 1), max_size=70), st.text(max_size=3))
    def test_array_headers(self, dtype: object, shape: list[int], layout: str) -> None:
        """Array headers that claim anything at all."""
        header = msgspec.msgpack.encode([dtype, shape, layout])
        read_safely(ARRAY, len(header).to_bytes(4, "little") + header + bytes(64))

    @pytest.mark.parametrize(
        ("code", "payload"),
        [
            (MSGPACK, b"\xdd\xff\xff\xff\xff"),
            (MSGPACK, b"\xdf\x7f\xff\xff\xff"),
            (MSGPACK, b"\xc6\xff\xff\xff\xff"),
            (MSGPACK, b"\xc9\xff\xff\xff\xff\x01"),
            (MSGPACK, b"".join(b"\xdd" + (5000 - 5 * i).to_bytes(4, "big") for i in range(1000))),
            (MSGPACK, b"\x91" * 1_000_000),
            (MSGPACK, b"\x81\x01" * 500_000),
            (MSGPACK, b"\xc7\x02\x01" * 300_000),
            *(
                (ARRAY, len(header).to_bytes(4, "little") + header + bytes(-(4 + len(header)) % 16))
                for header in (
                    msgspec.msgpack.encode([dtype, shape, "C"])
                    for dtype, shape in [
                        ("<f8", [2**60]),
                        ("<f8", [2**64 - 1, 2**64 - 1]),
                        ("<f8", [0, 2**62]),
                        ("|V2147483647", [0]),
                        ("|V0", [2**60]),
                        ("<f8", [1] * 65),
                        ({"base": "<f8", "shape": [2**60]}, []),
                        ("|O", [1]),
                        ({"a": ["|O", 0]}, [1]),
                    ]
                )
            ),
            (ARRAY, b"\xff\xff\xff\xff"),
        ],
    )
    def test_bombs(self, code: int, payload: bytes) -> None:
        """Claimed lengths, shapes and depths are checked before anything is allocated. Fault 9."""
        assert peak_bytes(lambda: CODECS.decode(code, payload)) < 100_000 + 2 * len(payload)

    def test_deep_extensions_with_a_high_recursion_limit(self) -> None:
        """The depth is bounded by us, not by the stack."""
        value = b"\xc0"
        for _ in range(20_000):
            value = b"\xc9" + (len(value) + 1).to_bytes(4, "big") + b"\x01\x91" + value
        code = (
            "import sys\nfrom hybridcore.codec import Codecs, MSGPACK\n"
            "sys.setrecursionlimit(10**6)\n"
            "from hybridcore import DecodeError\n"
            "try: Codecs().decode(MSGPACK, sys.stdin.buffer.read())\n"
            "except DecodeError as error: print(error)"
        )
        done = subprocess.run([sys.executable, "-c", code], input=value, capture_output=True)
        assert (done.returncode, done.stderr) == (0, b"")
        assert b"too deep" in done.stdout

    @given(st.binary(max_size=40))
    def test_well_formed_is_what_msgspec_reads(self, payload: bytes) -> None:
        """The native check refuses nothing that msgspec can read (but extensions' contents)."""
        try:
            msgspec.msgpack.Decoder(ext_hook=lambda code, data: never()).decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, AssertionError):
            return
        assert is_well_formed(payload)
