"""Traces come from .npz, .csv and text files, and what is none is told in one line."""

from __future__ import annotations

import numpy as np
import pytest

from hybridcore.cli.trace import TraceError, read_trace


def test_the_shipped_trace_is_whole():
    """The conversation trace comes along: 288,500 requests, numbered from 0 as they appear."""
    trace = read_trace(None, 1_000_000)
    assert trace.name == "mooncake_conv"
    assert trace.numbered
    assert len(trace.keys) == 288_500
    assert len(set(trace.keys)) == 182_790
    assert trace.keys[:3] == ["0", "1", "2"]
    assert trace.keys[14] == "0"


def test_only_the_first_requests_are_read():
    """A trace is cut at the number of requests asked for."""
    assert read_trace(None, 3).keys == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("name", "text", "keys"),
    [
        ("t.txt", "a\n\n b \r\na\n", ["a", "b", "a"]),
        ("trace", "key\nk,1\n", ["key", "k,1"]),
        ("t.txt", "\ufeffä\n", ["ä"]),
        ("t.csv", 'key,size\na,1\n"b,c",2\n\n', ["a", "b,c"]),
        ("t.csv", "a,1\nkey,2\n", ["a", "key"]),
    ],
)
def test_text_and_csv(tmp_path, name, text, keys):
    """Text has a key a line, CSV has keys in its first column below a header or none."""
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    trace = read_trace(path, 100)
    assert trace.keys == keys
    assert not trace.numbered


@pytest.mark.parametrize(
    ("array", "keys", "numbered"),
    [
        (np.array([3, 1], np.uint32), ["3", "1"], True),
        (np.array([3, 1], np.int64), ["3", "1"], True),
        (np.array([3, -1], np.int64), ["3", "-1"], False),
        (np.array(["x", "yy"]), ["x", "yy"], False),
    ],
)
def test_npz(tmp_path, array, keys, numbered):
    """An .npz file has its keys in an array of numbers or strings."""
    path = tmp_path / "t.npz"
    np.savez(path, keys=array)
    trace = read_trace(path, 100)
    assert (trace.name, trace.keys, trace.numbered) == ("t", keys, numbered)


def _no_file(path):
    pass


def _directory(path):
    path.mkdir()


def _empty(path):
    path.write_bytes(b"")


def _binary(path):
    path.write_bytes(b"\xff\xfe\x00\xff")


def _no_keys(path):
    with path.open("wb") as file:
        np.savez(file, other=np.arange(3))


def _square(path):
    with path.open("wb") as file:
        np.savez(file, keys=np.zeros((2, 2), int))


def _floats(path):
    with path.open("wb") as file:
        np.savez(file, keys=np.zeros(2))


def _objects(path):
    with path.open("wb") as file:
        np.savez(file, keys=np.array([object(), "a"], dtype=object))


def _zero_long(path):
    with path.open("wb") as file:
        np.savez(file, keys=np.zeros(0, int))


def _cut(path):
    _floats(path)
    path.write_bytes(path.read_bytes()[:50])


def _plain_array(path):
    with path.open("wb") as file:
        np.save(file, np.arange(3))


@pytest.mark.parametrize("name", ["t.npz", "t.csv", "t.txt"])
@pytest.mark.parametrize("make", [_no_file, _directory, _empty])
def test_files_that_are_missing_or_empty(tmp_path, name, make):
    """A trace that is missing, a directory or empty is a TraceError that names the path."""
    path = tmp_path / name
    make(path)
    with pytest.raises(TraceError, match=r"trace .*t\.") as caught:
        read_trace(path, 10)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "make",
    [_binary, _no_keys, _square, _floats, _objects, _zero_long, _cut, _plain_array],
    ids=lambda make: make.__name__,
)
def test_npz_files_that_are_no_traces(tmp_path, make):
    """An .npz of another form is a TraceError, and nothing in it is unpickled."""
    path = tmp_path / "t.npz"
    make(path)
    with pytest.raises(TraceError, match=r"trace .*t\.npz") as caught:
        read_trace(path, 10)
    assert "\n" not in str(caught.value)


def test_text_that_is_no_utf8(tmp_path):
    """Bytes that are no text are a TraceError."""
    path = tmp_path / "t.txt"
    _binary(path)
    with pytest.raises(TraceError, match="not UTF-8"):
        read_trace(path, 10)
