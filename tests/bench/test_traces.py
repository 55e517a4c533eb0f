"""Every form of trace is read to the same requests, and what is none is told in one line."""

from __future__ import annotations

import numpy as np
import pytest

from bench.traces import ORACLE_RECORD, TraceError, read_trace

KEYS, SIZES = [7, 3, 7, 9], [10, 20, 11, 30]


def oracle_records() -> bytes:
    table = np.zeros(len(KEYS), ORACLE_RECORD)
    table["key"], table["size"], table["next"] = KEYS, SIZES, [2, -1, -1, -1]
    return table.tobytes()


def write(path, suffix):
    path = path / f"t{suffix}"
    if suffix == ".npz":
        np.savez(path, keys=np.array(KEYS, np.uint32), sizes=np.array(SIZES, np.uint32))
    elif suffix == ".csv":
        path.write_text("".join(f"{k},{s}\n" for k, s in zip(KEYS, SIZES, strict=True)))
    elif suffix.endswith(".zst"):
        path.write_bytes(pytest.importorskip("zstandard").compress(oracle_records()))
    else:
        path.write_bytes(oracle_records())
    return path


@pytest.mark.parametrize(
    "suffix", [".npz", ".csv", ".oracleGeneral", ".oracleGeneral.bin", ".oracleGeneral.bin.zst"]
)
def test_all_forms_hold_the_same(tmp_path, suffix):
    """Keys are numbered as they appear, and keep the size that they appeared with."""
    path = write(tmp_path, suffix)
    trace = read_trace(path)
    assert trace.name == "t"
    assert trace.keys.tolist() == [0, 1, 0, 2]
    assert trace.sizes.tolist() == [10, 20, 10, 30]
    assert (trace.unique, trace.footprint) == (3, 60)
    assert read_trace(path, 2).keys.tolist() == [0, 1]


def test_lines_of_arc_traces_are_runs_of_blocks(tmp_path):
    """``start count ignored request`` asks for ``count`` blocks from ``start`` on."""
    path = tmp_path / "P1.lis"
    path.write_text("100 3 0 1\n7 1 0 2\n101 2 0 3\n")
    assert read_trace(path).keys.tolist() == [0, 1, 2, 3, 1, 2]
    assert read_trace(path, 4).keys.tolist() == [0, 1, 2, 3]


def test_a_csv_may_name_its_columns(tmp_path):
    """A first line that begins with "key" names the columns."""
    path = tmp_path / "t.csv"
    path.write_text("key,cost\na,1.5\nb,2\na,3\n")
    trace = read_trace(path)
    assert trace.keys.tolist() == [0, 1, 0]
    assert trace.costs.tolist() == [1.5, 2, 3]
    assert trace.sizes is None


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.npz", b"", "is no .npz file"),
        ("t.npz", b"no archive", "is no .npz file"),
        ("t.csv", b"", "has no requests"),
        ("t.csv", b"a,1\nb\n", "a line has no size"),
        ("t.csv", b"a,large\n", "is no .csv file"),
        ("t.csv", b"key,cost\na,0\n", "above 0"),
        ("t.csv", b"\xff\xfe", "is no .csv file"),
        ("t.lis", b"", "has no requests"),
        ("t.lis", b"1 2 3\n", "line 1 has 3 numbers"),
        ("t.lis", b"1 x 3 4\n", "is no .lis file"),
        ("t.oracleGeneral", b"", "has no requests"),
        ("t.oracleGeneral.bin", b"123", "no multiple of 24"),
        ("t.pcap", b"123", "unknown kind of trace"),
    ],
)
def test_what_is_no_trace_is_told(tmp_path, name, content, message):
    """A file that is empty, damaged or of another kind raises TraceError, which says so."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(TraceError, match=message):
        read_trace(path)


def test_a_damaged_compressed_trace_is_told(tmp_path):
    """So does one that cannot be decompressed."""
    pytest.importorskip("zstandard")
    path = tmp_path / "t.oracleGeneral.zst"
    path.write_bytes(b"no frame")
    with pytest.raises(TraceError, match="as expected"):
        read_trace(path)
