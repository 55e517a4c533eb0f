from __future__ import annotations

import struct
import zlib
from contextlib import contextmanager
from random import Random

import numpy as np
import pytest
import xxhash
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hybridcore import Codec, Codecs, Validators
from hybridcore._native.reader import Reader
from hybridcore._native.record import is_intact, pack, peek, seal
from hybridcore.disk.keys import encode_key, lmdb_key, squeeze
from hybridcore.disk.meta import decode_meta
from hybridcore.errors import DecodeError

HEADER = struct.Struct("<Q2sBBIQqqqffII")


@contextmanager
def raw(disk):
    """The stored records as LMDB sees them: a transaction that may forge them."""
    env = disk._environment
    with env._env.begin(write=True, db=env.data) as txn:
        yield txn


def stored(disk, key):
    with raw(disk) as txn:
        return bytes(txn.get(lmdb_key(encode_key(key))))


def forge(disk, key, record):
    with raw(disk) as txn:
        txn.put(lmdb_key(encode_key(key)), bytes(record))


def sealed(record):
    """The record with a checksum that fits."""
    return struct.pack("<Q", xxhash.xxh3_64_intdigest(record[8:])) + record[8:]


def test_the_layout_never_changes(disk, clock):
    """A record is a 64-byte header, the key, the meta part, padding, and the payload."""
    held = Validators(etag='"v1"')
    disk.put("key", b"payload", ttl=5, stale=10, validators=held, cost=2.5, importance=3)
    record = stored(disk, "key")
    (checksum, magic, version, code, flags, number, at, fresh, expires, cost, importance,
     key_size, meta_size) = HEADER.unpack_from(record)  # fmt: skip
    assert (magic, version, code, flags, number) == (b"hc", 1, 0, 0, 1)
    assert checksum == xxhash.xxh3_64_intdigest(record[8:])
    assert (at, fresh, expires) == (clock.now, clock.now + 5 * 10**9, clock.now + 15 * 10**9)
    assert (cost, importance) == (2.5, 3.0)
    assert record[64 : 64 + key_size] == encode_key("key")
    used = 64 + key_size + meta_size
    start = -(-used // 16) * 16
    assert record[used:start] == bytes(start - used)
    assert record[start:] == b"payload"


def test_versions_rise_over_the_whole_directory(open_disk):
    """Every write has a higher version than all before it, whoever wrote, and after a clear."""
    disk = open_disk()
    disk["a"] = 1
    disk.put_many({"b": 1, "c": 1})
    disk["a"] = 2
    assert [disk.fetch(key).version for key in "bca"] == [2, 3, 4]
    disk.clear()
    disk.close()
    again = open_disk()
    again["a"] = 3
    assert again.fetch("a").version == 5


def test_a_record_tells_what_was_stored(disk, clock):
    """fetch gives value, freshness, validators, version, age, cost and importance."""
    held = Validators(etag="e", last_modified="yesterday")
    disk.put("key", [1], ttl="5s", stale="10s", validators=held, cost=2.0, importance=0.5)
    clock.advance(2)
    record = disk.fetch("key")
    assert (record.value, record.fresh, record.validators, record.version) == ([1], True, held, 1)
    assert record.ttl_left == pytest.approx(3.0)
    assert record.stored_at == clock.now - 2 * 10**9
    assert (record.cost, record.importance) == (2.0, 0.5)
    disk["for ever"] = 1
    for_ever = disk.fetch("for ever")
    assert (for_ever.fresh, for_ever.ttl_left, for_ever.validators) == (True, None, None)


damage = st.one_of(
    st.tuples(st.just("flip"), st.integers(0, 64 + 16 + 300), st.integers(1, 255)),
    st.tuples(st.just("cut"), st.integers(0, 64 + 16 + 300), st.just(0)),
    st.tuples(st.just("grow"), st.integers(1, 40), st.just(0)),
    st.tuples(st.just("zero"), st.integers(0, 200), st.integers(1, 200)),
)


def damaged(record, how, where, what):
    record = bytearray(record)
    if how == "flip":
        record[where % len(record)] ^= what
    elif how == "cut":
        del record[where % len(record) :]
    elif how == "grow":
        record += bytes(where)
    else:
        record[where : where + what] = bytes(len(record[where : where + what]))
    return bytes(record)


def assert_a_miss(disk, key):
    before = disk.stats()
    assert disk.get(key, "miss") == "miss"
    assert disk.fetch(key) is None
    assert disk.get_many([key]) == {}
    assert disk.fetch_many([key]) == {}
    assert key not in disk
    assert dict(disk.items()) == {"bystander": "fine"}
    with pytest.raises(KeyError):
        disk[key]
    after = disk.stats()
    assert after.misses - before.misses >= 5
    assert after.damaged - before.damaged >= 6


@settings(
    max_examples=400,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.sampled_from(["key", "k" * 600]), damage)
def test_a_damaged_record_is_a_miss(disk, key, hurt):
    """Flipped, cut, zeroed or appended bytes anywhere: a miss and a counter (Fault 8)."""
    disk.clear()
    disk["bystander"] = "fine"
    disk[key] = b"payload" * 40
    whole = stored(disk, key)
    broken = damaged(whole, *hurt)
    if broken == whole:
        return
    forge(disk, key, broken)
    assert_a_miss(disk, key)
    disk[key] = "new"
    assert disk[key] == "new"


def test_every_byte_of_the_header_is_checked(disk):
    """A flip of any bit of header, key, meta and padding is a miss (Fault 8)."""
    disk.put("key", b"", ttl=50, stale=50, validators=Validators("etag"))
    whole = stored(disk, "key")
    for position in range(len(whole)):
        for bit in range(8):
            broken = bytearray(whole)
            broken[position] ^= 1 << bit
            forge(disk, "key", broken)
            assert disk.fetch("key") is None
    assert disk.stats().damaged == len(whole) * 8


@pytest.mark.parametrize("other", ["other", "k" * 600, "key2"])
def test_another_keys_record_is_a_miss(disk, other):
    """A whole record of another key under this key is never served (Fault 9)."""
    disk["bystander"] = "fine"
    disk["key"] = "mine"
    disk[other] = "theirs"
    record = stored(disk, other)
    disk.delete(other)
    forge(disk, "key", record)
    assert_a_miss(disk, "key")


@pytest.mark.parametrize(
    ("offset", "bytes_there"),
    [
        pytest.param(10, b"\x02", id="future format"),
        pytest.param(12, b"\x03", id="unknown flag"),
        pytest.param(11, b"\xc8", id="unknown codec"),
        pytest.param(56, b"\xff\xff\xff\xff", id="key longer than the record"),
        pytest.param(60, b"\xff\xff\xff\xff", id="meta longer than the record"),
        pytest.param(8, b"xx", id="other magic"),
    ],
)
def test_what_this_version_cannot_read_is_a_miss(disk, offset, bytes_there):
    """With a checksum that fits, a record of the future is still not guessed at (Fault 9)."""
    disk["bystander"] = "fine"
    disk["key"] = b"payload"
    record = bytearray(stored(disk, "key"))
    record[offset : offset + len(bytes_there)] = bytes_there
    forge(disk, "key", sealed(bytes(record)))
    before = disk.stats().damaged
    assert disk.get("key", "miss") == "miss"
    assert disk.fetch("key") is None
    assert disk.stats().damaged == before + 2
    assert disk["bystander"] == "fine"


def test_a_payload_that_no_codec_reads_is_a_miss(disk):
    """A payload that does not decode, and a codec that raises anything, are misses."""
    disk["key"] = {"a": 1}
    record = stored(disk, "key")
    forge(disk, "key", sealed(record[:-3]))
    assert disk.get("key") is None
    assert disk.stats().damaged == 1


def expanding_with(disk, decompress):
    """The tier, reading compressed records with this function."""
    Reader.__init__(
        disk,
        disk._environment.gate,
        Codecs().decode,
        decode_meta,
        encode_key,
        squeeze,
        disk._environment.recover,
        disk._clock,
        decompress,
    )
    return disk


@pytest.mark.parametrize("size", [10, 100_000])
def test_compressed_records_are_expanded_before_they_are_decoded(disk, size):
    """The flags and the stored bytes go to the decompressor, and what it returns to the codec."""
    asked = []

    def decompress(flags, stored):
        asked.append((flags, bytes(stored[:8])))
        return zlib.decompress(stored[8:])

    expanding_with(disk, decompress)
    values = [Random(1).randbytes(size), "text" * size, ["list"] * size, np.arange(size)]
    for flags, value in enumerate(values):
        flags = 1 + flags % 2
        code, payload = Codecs().encode(value)
        raw = b"".join(payload)
        prefix = len(raw).to_bytes(8, "little")
        form = encode_key("key")
        record = pack(form, code, (prefix, zlib.compress(raw)), b"", 0, 0, 0, 1.0, 1.0, flags=flags)
        seal(record, 1)
        assert peek(record)._replace(payload_size=0) == (1, 0, 0, form, 1.0, 1.0, flags, 0)
        forge(disk, "key", record)
        assert np.array_equal(disk["key"], value)
        assert asked.pop() == (flags, prefix)


@pytest.mark.parametrize("error", [DecodeError, ImportError, ZeroDivisionError, None])
def test_what_cannot_be_expanded_is_a_miss(disk, error):
    """Whatever the decompressor raises, and where there is none, is a miss and a counter."""

    def decompress(flags, stored):
        raise error("no")

    expanding_with(disk, decompress if error else None)
    record = pack(encode_key("key"), 0, (b"stored",), b"", 0, 0, 0, 1.0, 1.0, flags=1)
    seal(record, 1)
    forge(disk, "key", record)
    assert disk.get("key") is None
    assert disk.fetch("key") is None
    assert disk.get_many(["key"]) == {}
    assert disk.stats().damaged == 3


class Money:
    def __init__(self, cents):
        self.cents = cents


def test_a_codec_that_keeps_the_buffer_gets_its_own(open_disk):
    """A decoder that returns a view of the mapped file is given memory that stays."""
    codecs = Codecs(Codec(64, Money, lambda m: m.cents.tobytes(), lambda view: Money(view)))
    disk = open_disk(codecs=codecs)
    disk["key"] = Money(memoryview(b"12345" * 1000))
    views = [disk["key"].cents, disk.fetch("key").value.cents]
    disk["key"] = Money(memoryview(b"other" * 1000))
    for number in range(100):
        disk[number] = b"x" * 5000
    assert [bytes(view) for view in views] == [b"12345" * 1000] * 2


def test_the_checksum_is_xxh3():
    """A sealed record of any size has the checksum that the xxhash package computes."""
    random = Random(1)
    for size in [*range(64, 2500), 4096, 10_000, 1 << 20]:
        record = bytearray(random.randbytes(size))
        seal(record, size)
        assert bytes(record) == sealed(bytes(record))


def test_large_and_small_values_in_turn(disk):
    """Records are read right and checked in whatever order large and small ones come."""
    values = {f"{size}": Random(size).randbytes(size) for size in (0, 1, 100, 4000, 5000, 70_000)}
    lists = {f"list of {size}": [size] * size for size in (1, 3000)}
    disk.put_many(values | lists)
    random = Random(1)
    for _ in range(300):
        key = random.choice([*values, *lists])
        assert disk[key] == (values | lists)[key]
        assert disk.get_many([key, "nobody"]) == {key: (values | lists)[key]}
    for key in values:
        broken = bytearray(stored(disk, key))
        broken[-1] ^= 1
        forge(disk, key, broken)
        assert disk.get(key) is None
        assert disk.get(key) is None
    assert disk.stats().damaged == 2 * len(values)
    assert disk.get_many(lists) == lists


def test_packing_by_hand():
    """pack, seal and peek agree, and several buffers are joined."""
    record = pack(b"\x30k", 2, (b"ab", memoryview(b"cd")), b"meta", 1, 2, 3, 1.0, 1.0)
    assert not is_intact(record, b"\x30k")
    seal(record, 7)
    assert is_intact(record, b"\x30k")
    assert not is_intact(record, b"\x30x")
    assert record.endswith(b"abcd")
    assert peek(record) == (7, 2, 3, b"\x30k", 1.0, 1.0, 0, 4)
    assert peek(record[:63]) is None
    assert peek(b"") is None
    with pytest.raises(BufferError):
        pack(b"k", 2, (memoryview(b"abcd")[::2],), b"", 1, 2, 3, 1.0, 1.0)
    with pytest.raises(TypeError):
        pack(b"k", 2, ("text",), b"", 1, 2, 3, 1.0, 1.0)
