from __future__ import annotations

from random import Random

import numpy as np
import pytest

from hybridcore import Validators
from hybridcore.disk.keys import encode_key, lmdb_key
from tests.disk.test_record import expanding_with, raw, sealed

RECORDS = 10_000
ROUND = 250
FIELDS = {
    "checksum": (0, 8), "magic": (8, 10), "format": (10, 11), "code": (11, 12), "flags": (12, 16),
    "version": (16, 24), "stored_at": (24, 32), "fresh_until": (32, 40), "expires_at": (40, 48),
    "cost": (48, 52), "importance": (52, 56), "key_size": (56, 60), "meta_size": (60, 64),
}  # fmt: skip
VALUES = [
    b"payload" * 10, b"", b"long" * 3000, "text", "text" * 2000, {"a": [1, 2.5, None]},
    [0] * 3000, ("tuple", 7), np.arange(9), np.zeros((60, 70)),
]  # fmt: skip
VALIDATORS = Validators(etag="etag", last_modified="yesterday")


def equal(one, other):
    return type(one) is type(other) and np.array_equal(one, other)


def key_of(number):
    return [f"key {number}", ("key", number), number, f"{number}" + "k" * 600][number % 4]


def flipped(record, random, start, end):
    """The record with one to three bits flipped between these offsets."""
    for _ in range(random.randint(1, 3)):
        record[random.randrange(start, end)] ^= 1 << random.randrange(8)


def damage(record, random, key_size, meta_size):
    """Damage the record in place, in one of many ways."""
    key_end = 64 + key_size
    meta_end = key_end + meta_size
    payload = -(-meta_end // 16) * 16
    parts = [*FIELDS.values(), (64, key_end), (key_end, meta_end), (meta_end, payload)]
    parts += [(payload, len(record)), (0, len(record))]
    parts = [part for part in parts if part[0] < part[1]]
    choice = random.randrange(len(parts) + 3)
    if choice < len(parts):
        flipped(record, random, *parts[choice])
    elif choice == len(parts):
        del record[random.randrange(1, len(record)) :]
    elif choice == len(parts) + 1:
        record += random.randbytes(random.randint(1, 5000))
    else:
        start = random.randrange(len(record))
        end = min(len(record), start + random.randint(1, 200))
        record[start:end] = random.randbytes(end - start)


def fuzzed(disk, random, resealed=False):
    """Store a round of values and damage each; return {key: (value, whether it is as it was)}."""
    numbers = range(ROUND)
    values = {key_of(number): VALUES[random.randrange(len(VALUES))] for number in numbers}
    for key, value in values.items():
        ttl = random.choice([None, 50])
        held = random.choice([None, VALIDATORS])
        disk.put(key, value, ttl=ttl, stale=50, validators=held)
    found = {}
    with raw(disk) as txn:
        for key, value in values.items():
            form = encode_key(key)
            whole = txn.get(lmdb_key(form))
            record = bytearray(whole)
            damage(record, random, len(form), int.from_bytes(whole[60:64], "little"))
            if resealed and len(record) >= 8:
                record = bytearray(sealed(bytes(record)))
            txn.put(lmdb_key(form), bytes(record))
            found[key] = value, bytes(record) == whole
    return found


def viewed(disk, key, default):
    try:
        with disk.view(key) as view:
            return bytes(view) if isinstance(view, memoryview) else np.copy(view)
    except KeyError:
        return default


def test_damaged_records_are_misses(disk):
    """10 000 records damaged in any field, cut or grown: each is a miss and a counter, or its
    true value where the damage left it as it was (Fault 8)."""
    random = Random(1)
    for _ in range(RECORDS // ROUND):
        records = fuzzed(disk, random)
        before = disk.stats()
        for key, (value, whole) in records.items():
            expected = value if whole else "miss"
            assert equal(disk.get(key, "miss"), expected)
            assert (key in disk) == whole
        fetched = disk.fetch_many(records)
        assert set(fetched) == {key for key, (_, whole) in records.items() if whole}
        got = disk.get_many(records)
        assert set(got) == set(fetched)
        whole = len(got)
        after = disk.stats()
        assert after.hits - before.hits == 3 * whole
        assert after.misses - before.misses == 3 * (ROUND - whole)
        assert after.damaged - before.damaged == 4 * (ROUND - whole)
        for key in random.sample(list(records), 20):
            if not records[key][1]:
                assert viewed(disk, key, "miss") == "miss"


@pytest.mark.parametrize("seed", [1, 2])
def test_forged_records_harm_nobody(disk, clock, seed):
    """Records damaged and then given a checksum that fits may be anything, but reading them
    raises nothing and reads nothing beyond them."""
    random = Random(seed)
    expanding_with(disk, lambda flags, payload: bytes(payload[8:]))
    for _ in range(8):
        records = fuzzed(disk, random, resealed=True)
        before = disk.stats()
        for key in records:
            disk.get(key)
            disk.fetch(key)
            viewed(disk, key, None)
        disk.get_many(records)
        disk.fetch_many(records)
        list(disk.items())
        after = disk.stats()
        assert after.requests - before.requests >= 5 * ROUND
        assert after.damaged > before.damaged
        disk.put_many(dict.fromkeys(records, "new"))
        assert set(disk.get_many(records).values()) == {"new"}
