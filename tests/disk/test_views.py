from __future__ import annotations

import os
import threading
import time
import zlib
from random import Random

import numpy as np
import pytest

from hybridcore import ClosedError, Codecs, DiskError
from hybridcore._native.record import pack, seal
from hybridcore.disk.keys import encode_key
from tests.disk.test_record import expanding_with, forge, sealed, stored


def array_of(size, seed=1):
    return np.random.default_rng(seed).random(size)


def nobody_reads(disk):
    return disk._environment.gate.drain(0)


def churn(disk):
    """Write so much that LMDB reuses every page that it may."""
    for number in range(40):
        disk.put_many({f"churn {i}": bytes([number]) * 20_000 for i in range(20)})


@pytest.mark.parametrize("order", ["C", "F"])
def test_an_array_is_viewed_where_it_lies(disk, order):
    """A view is a read-only array over the map: equal, not owned, and let go when it is dropped."""
    whole = np.asarray(array_of(5000).reshape(50, 100), order=order)
    disk["key"] = whole
    with disk.view("key") as array:
        assert np.array_equal(array, whole)
        assert array.flags.f_contiguous == whole.flags.f_contiguous
        assert not array.flags.writeable
        assert not array.flags.owndata
        assert type(array.base).__name__ == "Pin"
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0] = 1
        assert not nobody_reads(disk)
    del array
    assert nobody_reads(disk)


def test_bytes_are_released_with_the_block(disk):
    """Bytes come as a memoryview over the map, and it cannot be used after the block."""
    disk["key"] = b"payload" * 1000
    with disk.view("key") as view:
        assert (view == b"payload" * 1000, view.readonly) == (True, True)
    assert nobody_reads(disk)
    with pytest.raises(ValueError, match="released"):
        bytes(view)


@pytest.mark.parametrize("value", ["text", {"a": [1, 2]}, 7, None, np.float32(1.5), np.empty(0)])
def test_what_is_no_buffer_is_decoded(disk, value):
    """Values that cannot lie in the map come as `get` returns them, and pin nothing."""
    disk["key"] = value
    with disk.view("key") as seen:
        assert np.array_equal(seen, value)
        assert type(seen) is type(value)
        assert nobody_reads(disk)


def test_small_arrays_are_aligned(disk):
    """An array that LMDB placed anywhere is copied to where its elements are aligned."""
    for size in range(1, 60):
        disk["k" * size] = array_of(size)
        with disk.view("k" * size) as array:
            assert array.flags.aligned
            assert not array.flags.writeable
            assert np.array_equal(array, array_of(size))


def test_a_view_is_of_one_moment(disk):
    """What is written, deleted and evicted meanwhile does not show within the block."""
    disk["key"] = array_of(20_000)
    with disk.view("key") as array:
        disk["key"] = array_of(20_000, seed=2)
        with disk.view("key") as newer:
            assert np.array_equal(newer, array_of(20_000, seed=2))
        disk.clear()
        churn(disk)
        assert np.array_equal(array, array_of(20_000))


@pytest.mark.parametrize(
    "keep",
    [
        pytest.param(lambda value: value, id="the array"),
        pytest.param(lambda value: value[10:20], id="a part"),
        pytest.param(lambda value: memoryview(value), id="a memoryview"),
        pytest.param(lambda value: value.view(np.uint8).reshape(-1, 8), id="another shape"),
    ],
)
def test_what_is_kept_beyond_the_block_stays_readable(disk, keep):
    """An array that outlives its block holds the snapshot until it is dropped itself."""
    disk["key"] = array_of(20_000)
    with disk.view("key") as array:
        kept = keep(array)
    expected = bytes(keep(array_of(20_000)))
    del array
    disk["key"] = "another"
    churn(disk)
    assert bytes(kept) == expected
    assert not nobody_reads(disk)
    del kept
    assert nobody_reads(disk)


def test_what_was_made_of_bytes_stays_readable(disk):
    """A buffer made of the memoryview keeps it from being released, and the snapshot in place."""
    disk["key"] = bytes(range(256)) * 100
    with disk.view("key") as view:
        kept = np.frombuffer(view, np.uint8), view[1:]
    del view
    churn(disk)
    assert bytes(kept[0]) == bytes(range(256)) * 100
    assert bytes(kept[1]) == (bytes(range(256)) * 100)[1:]
    del kept
    assert nobody_reads(disk)


def test_closing_does_not_wait_for_what_is_kept(open_disk):
    """close() returns at once, the array stays readable, and the directory opens again."""
    disk = open_disk()
    disk["key"] = array_of(20_000)
    with disk.view("key") as array:
        pass
    started = time.monotonic()
    disk.close()
    assert time.monotonic() - started < 2
    assert np.array_equal(array, array_of(20_000))
    with pytest.raises(ClosedError), disk.view("key"):
        pass
    assert np.array_equal(open_disk()["key"], array_of(20_000))


def test_the_map_is_not_resized_under_what_is_kept(disk):
    """Enlarging the map would unmap a kept array: it fails at once and changes nothing."""
    disk["key"] = array_of(20_000)
    with disk.view("key") as array:
        pass
    started = time.monotonic()
    with pytest.raises(DiskError):
        disk._environment._grow(1.0)
    assert time.monotonic() - started < 2
    assert np.array_equal(array, array_of(20_000))
    del array
    assert disk._environment._grow(1.0)
    assert np.array_equal(disk["key"], array_of(20_000))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_child_may_drop_what_its_parent_views(disk):
    """After a fork, parent and child each drop the array, and neither is harmed."""
    disk["key"] = array_of(20_000)
    with disk.view("key") as array:
        pass
    child = os.fork()
    if not child:
        whole = np.array_equal(array, array_of(20_000))
        del array
        os._exit(0 if whole else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert np.array_equal(array, array_of(20_000))
    del array
    assert nobody_reads(disk)
    assert np.array_equal(disk["key"], array_of(20_000))


def test_what_get_misses_cannot_be_viewed(disk, clock):
    """Absent, expired and damaged entries raise KeyError on entering, and count as misses."""
    disk.put("expired", array_of(10), ttl=5)
    disk["damaged"] = array_of(10_000)
    broken = bytearray(stored(disk, "damaged"))
    broken[-1] ^= 1
    forge(disk, "damaged", broken)
    clock.advance(6)
    for key in ("absent", "expired", "damaged"):
        view = disk.view(key)
        with pytest.raises(KeyError, match=key), view:
            pass
        assert nobody_reads(disk)
    stats = disk.stats()
    assert (stats.hits, stats.misses, stats.expired, stats.damaged) == (0, 3, 1, 1)


def test_the_checksum_is_computed_once_per_version(open_disk):
    """A version that was viewed whole is not checked again by that object; the next one is."""
    disk, other = open_disk(), open_disk()
    disk["key"] = b"payload" * 1000
    with disk.view("key"):
        pass
    broken = bytearray(stored(disk, "key"))
    broken[-1] ^= 1
    forge(disk, "key", broken)
    with disk.view("key") as view:
        assert bytes(view[:7]) == b"payload"
    assert disk.get("key") is None
    with pytest.raises(KeyError), other.view("key"):
        pass
    for _ in range(3):
        disk["key"] = b"another" * 1000
        broken = bytearray(stored(disk, "key"))
        broken[-1] ^= 1
        forge(disk, "key", broken)
        with pytest.raises(KeyError), disk.view("key"):
            pass
    forge(disk, "key", sealed(bytes(broken)))
    with disk.view("key") as view:
        assert bytes(view[:7]) == b"another"


def test_a_checksum_of_zero_is_computed_like_any_other(disk):
    """The empty memory of checked records vouches for none."""
    disk["key"] = b"payload" * 1000
    forge(disk, "key", bytes(8) + stored(disk, "key")[8:])
    with pytest.raises(KeyError), disk.view("key"):
        pass


def test_compressed_values_are_expanded_to_memory_of_their_own(disk):
    """A view of compressed bytes or arrays is as read-only as any, and pins nothing."""
    expanding_with(disk, lambda flags, payload: zlib.decompress(payload[8:]))
    for value in (array_of(10_000), b"payload" * 1000):
        code, payload = Codecs().encode(value)
        raw = b"".join(payload)
        body = (len(raw).to_bytes(8, "little"), zlib.compress(raw))
        record = pack(encode_key("key"), code, body, b"", 0, 0, 0, 1.0, 1.0, flags=1)
        seal(record, 1)
        forge(disk, "key", record)
        with disk.view("key") as view:
            assert np.array_equal(view, value) or view == value
            assert memoryview(view).readonly
            assert nobody_reads(disk)


def test_an_error_in_the_block_passes(disk):
    """The block's error comes out, and the view is let go all the same."""
    disk["key"] = b"payload"
    with pytest.raises(ZeroDivisionError), disk.view("key"):
        raise ZeroDivisionError
    assert nobody_reads(disk)


def test_a_view_is_entered_once_at_a_time(disk):
    """Entering within its own block is refused; entering again afterwards reads anew."""
    disk["key"] = b"old"
    view = disk.view("key")
    with view as seen:
        with pytest.raises(RuntimeError, match="once"), view:
            pass
        assert bytes(seen) == b"old"
    disk["key"] = b"new"
    with view as seen:
        assert bytes(seen) == b"new"


def test_threads_view_while_others_write(disk):
    """Arrays seen in many threads are whole, whatever is written at the same time."""
    keys = [f"key {i}" for i in range(5)]
    disk.put_many({key: np.full(3000, 0.0) for key in keys})
    wrong: list[object] = []
    ended = threading.Event()

    def read(seed):
        random, kept = Random(seed), []
        while not ended.is_set():
            with disk.view(random.choice(keys)) as array:
                kept.append(array)
            if len(kept) > 5:
                kept.pop(random.randrange(5))
            wrong.extend(each for each in kept if (each != each[0]).any())

    readers = [threading.Thread(target=read, args=(seed,)) for seed in range(3)]
    for reader in readers:
        reader.start()
    for number in range(200):
        disk[keys[number % 5]] = np.full(3000, float(number))
    ended.set()
    for reader in readers:
        reader.join()
    assert not wrong
    assert nobody_reads(disk)
