"""Large values are smaller on disk, and come back as they were."""

from __future__ import annotations

import numpy as np
import pytest

from hybridcore import Compression

pytest.importorskip("zstandard", reason="zstandard is not installed")
pytest.importorskip("lz4.block", reason="lz4 is not installed")

TEXT = "again and again, " * 2000


@pytest.mark.parametrize("codec", ["auto", "zstd", "lz4"])
def test_values_come_back(open_disk, codec):
    """Of every kind, through every way of reading."""
    disk = open_disk(compression=Compression(codec))
    values = {
        "text": TEXT,
        "bytes": TEXT.encode(),
        "tree": {"rows": [TEXT] * 3},
        "small": "x",
        "array": np.zeros(5000),
    }
    disk.put_many(values)
    for key, value in values.items():
        assert np.array_equal(disk[key], value)
        assert np.array_equal(disk.fetch(key).value, value)
    assert disk.get_many(["text", "tree"]) == {"text": TEXT, "tree": values["tree"]}
    stats = disk.stats()
    assert stats.live_bytes < 60_000
    kept = [stats.compression.zstd.kept, stats.compression.lz4.kept]
    assert sum(kept) == 3
    assert disk.pop("text") == TEXT


def test_any_tier_reads_it(open_disk):
    """Also one that compresses nothing itself; and an overwrite is stored as the writer wants."""
    with open_disk(compression=Compression("zstd")) as disk:
        disk["key"] = TEXT
    plain = open_disk()
    assert plain["key"] == TEXT
    plain.touch("key", 10)
    assert plain["key"] == TEXT
    before = plain.stats().live_bytes
    plain["key"] = TEXT
    assert plain.stats().live_bytes > before + 30_000
    assert plain.stats().compression is None


def test_without_its_dictionary_it_is_a_miss(open_disk):
    """And counted as damaged; with the dictionary it is there."""
    samples = [f"user {n} has seen page {n * 7} of book {n % 13}".encode() * 3 for n in range(2000)]
    options = {"dictionary": Compression.train(samples, "4KiB"), "threshold": 32}
    with open_disk(compression=Compression(**options)) as disk:
        disk["key"] = samples[5]
        assert disk.stats().compression.zstd.kept == 1
    with open_disk() as other:
        assert other.get("key") is None
        assert other.stats().damaged == 1
    assert open_disk(compression=Compression(**options))["key"] == samples[5]
