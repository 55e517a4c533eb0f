"""Recordings: what was asked is read back, without keys unless wanted, and damage ends them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from hybridcore import Cache, HybridCache
from hybridcore.analytics import Analytics, Analyzer, Recorder, read_recording
from hybridcore.errors import ConfigurationError

SECRET = "alice@example.org"


def test_what_was_asked_is_read_back(tmp_path):
    """Lookups, puts, removals and sizes, in order and with their times."""
    cache = Cache(1_000, len)
    with Recorder(cache, tmp_path / "t", sample=1.0) as recorder:
        cache.get("a")
        cache["a"] = "four"
        cache.get("a")
        del cache["a"]
        cache.get("b")
    found = read_recording(recorder.path)
    assert found.operations.tolist() == [0, 1, 0, 2, 0]
    assert found.sizes.tolist() == [0, 4, 4, 0, 0]
    assert len(set(found.hashes[:4].tolist())) == 1
    assert found.hashes[4] != found.hashes[0]
    assert (found.sample, found.unit, found.complete) == (1.0, "bytes", True)
    assert (found.lookups, found.lost) == (3, 0)
    assert (np.diff(found.times) >= 0).all()
    assert found.keys == {}


def test_a_sample_is_of_keys(tmp_path):
    """A tenth of the keys with all of their requests; how many there were of all is told."""
    cache = Cache(10_000)
    with HybridCache(cache, origin=len) as store, store.record(tmp_path / "t", 0.1) as recorder:
        for _ in range(3):
            for key in range(20_000):
                store.get(f"key {key}")
    found = read_recording(recorder.path)
    assert found.lookups == 60_000
    assert (found.hashes < 0.1 * 2**32).all()
    lookups = found.hashes[found.operations == 0]
    assert len(lookups) == pytest.approx(6_000, rel=0.1)
    assert (np.unique(lookups, return_counts=True)[1] == 3).all()
    assert recorder.path.stat().st_size < 8 * len(found.hashes) + 200


def test_no_key_is_in_the_file(tmp_path):
    """Only hashes are, unless keys are asked for."""
    cache = Cache(100)
    for keys in (False, True):
        with Recorder(cache, tmp_path / str(keys), sample=1.0, keys=keys) as recorder:
            cache[SECRET] = 1
            cache.get(SECRET)
        found = read_recording(recorder.path)
        assert SECRET.encode() not in recorder.path.read_bytes()
        assert list(found.keys.values()) == ([repr(SECRET)] if keys else [])
        assert set(found.keys) <= set(found.hashes.tolist())


def test_a_directory_gets_files(tmp_path):
    """In a directory each recording has a name of its own."""
    cache = Cache(100)
    for _ in range(2):
        with Recorder(cache, tmp_path):
            cache.get("a")
    assert len(list(tmp_path.glob("*.hctrace"))) == 2


def test_what_was_cut_off_is_left_out(tmp_path):
    """Of a file that was cut, or damaged at its end, everything before is read."""
    cache = Cache(100)
    with Recorder(cache, tmp_path / "t", sample=1.0) as recorder:
        for key in range(20):
            cache.get(f"{key}")
        recorder.flush()
        for key in range(10):
            cache.get(f"{key}")
    whole = recorder.path.read_bytes()
    assert len(read_recording(recorder.path).hashes) == 30
    for spoiled in (whole[:-1], whole[:-4] + b"oops"):
        recorder.path.write_bytes(spoiled)
        found = read_recording(recorder.path)
        assert not found.complete
        assert len(found.hashes) == 20


@pytest.mark.parametrize(
    "data", [b"", b"HCTRACE", b"something else entirely", b"HCTRACE1\x02\x00\x00\x00[]"]
)
def test_what_is_no_recording(tmp_path, data):
    """Other files are refused."""
    path = tmp_path / "t"
    path.write_bytes(data)
    with pytest.raises(ValueError, match="recording"):
        read_recording(path)


def test_nothing_is_overwritten(tmp_path):
    """A file that is there stays as it is."""
    path = tmp_path / "t"
    path.write_text("precious")
    with pytest.raises(FileExistsError):
        Recorder(Cache(10), path)
    assert path.read_text() == "precious"


@pytest.mark.parametrize("sample", [0, -1, 1.5])
def test_samples_are_shares(tmp_path, sample):
    """A share above 0 and at most 1, else no file is made."""
    with pytest.raises(ConfigurationError, match="sample"):
        Recorder(Cache(10), tmp_path / "t", sample=sample)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_ends_the_recording(tmp_path):
    """The cache goes on; closing tells that not all could be written."""
    cache = Cache(100)
    recorder = Recorder(cache, tmp_path / "t", sample=1.0)

    class Full:
        def write(self, data):
            raise OSError(28, "No space left on device")

        def close(self):
            pass

    recorder._file.close()
    recorder._file = Full()
    cache.get("a")
    with pytest.raises(OSError, match="No space"):
        recorder.close()
    cache["a"] = 1
    assert cache.get("a") == 1
    recorder._file = None


def test_recording_and_analysis_at_once(tmp_path):
    """Both see every request, each of its own share of keys."""
    cache = Cache(500)
    analyzer = Analyzer(cache, Analytics(half_life=None))
    with Recorder(cache, tmp_path / "t", sample=0.25) as recorder:
        for key in range(4_000):
            cache.setdefault(f"{key % 800}", key)
    assert analyzer.curve().requests == 4_000
    found = read_recording(recorder.path)
    assert found.lookups == 4_000
    assert (found.operations == 0).sum() == pytest.approx(1_000, rel=0.25)
    assert json.dumps(recorder.events) == str(len(found.hashes))
