"""ObjectStoreOrigin: values and objects of any size, over S3, local files and memory."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys

import pytest

import hybridcore as hc
from hybridcore.errors import (
    ClosedError,
    ConfigurationError,
    ConflictError,
    NotFoundError,
    OriginError,
    ReadOnlyOriginError,
)
from hybridcore.origins import ObjectStoreOrigin
from hybridcore.types import Loaded, NotFound, NotModified, Validators

from .conftest import gather


@pytest.fixture(params=["s3", "file", "memory"])
def origin(request, tmp_path):
    """An origin of each kind of store that can be had here, empty."""
    if request.param == "s3":
        return request.getfixturevalue("open_s3")()
    if request.param == "memory":
        return ObjectStoreOrigin("memory://", writable=True)
    (tmp_path / "objects").mkdir()
    return ObjectStoreOrigin(f"file://{tmp_path}/objects", writable=True)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("a.json", {"a": [1, None]}),
        ("a/b c.txt", "naïve"),
        ("ü/%2F#?&+.bin", b"\x00\xff"),
        ("empty.bin", b""),
    ],
)
def test_values_come_back_as_they_were(call, origin, key, value):
    """JSON, text and bytes are stored, found, renewed and deleted, whatever the store."""
    assert call(origin, "load", key) == NotFound()
    marks = call(origin, "store", key, value)
    assert marks.etag
    assert call(origin, "load", key) == Loaded(value, validators=marks)
    assert call(origin, "load", key, marks) == NotModified()
    assert call(origin, "load", key, Validators('"other"')) == Loaded(value, validators=marks)
    call(origin, "delete", key)
    call(origin, "delete", key)
    assert call(origin, "load", key, marks) == NotFound()


def test_many_keys_at_once(call, origin):
    """load_many has an answer or an error for every key, and renews what is held."""
    marks = {f"{n}.txt": call(origin, "store", f"{n}.txt", str(n)) for n in range(20)}
    held = {key: mark if key < "5" else None for key, mark in marks.items()}
    answers = call(origin, "load_many", {**held, "none": None, "../x": None})
    assert answers.pop("none") == NotFound()
    assert isinstance(answers.pop("../x"), OriginError)
    assert {key: isinstance(answer, NotModified) for key, answer in answers.items()} == {
        key: mark is not None for key, mark in held.items()
    }
    assert answers["7.txt"].value == "7"


def test_listing_by_prefix(call, origin):
    """Objects are listed with key and size, below a prefix of whole parts; few or thousands."""
    for key in ["a/b/1.bin", "a/b/2.bin", "a/bc.bin", "z.bin"]:
        call(origin, "store", key, b"12345")

    def listed(*prefix):
        if call.loop is None:
            found = list(origin.objects(*prefix))
        else:
            found = call.loop.run_until_complete(gather(origin.aobjects(*prefix)))
        assert all((one.size, one.modified.year > 2000) == (5, True) for one in found)
        return sorted(one.key for one in found)

    assert listed() == ["a/b/1.bin", "a/b/2.bin", "a/bc.bin", "z.bin"]
    assert listed("a/b") == listed("a/b/") == ["a/b/1.bin", "a/b/2.bin"]
    assert listed("none") == []


def test_what_is_counted(call, origin):
    """Calls, bytes in and out, 304s and errors are counted; a missing key is no error."""
    marks = call(origin, "store", "k.bin", b"12345")
    call(origin, "load", "k.bin")
    call(origin, "load", "k.bin", marks)
    call(origin, "load", "none")
    usage = origin.usage()
    assert (usage.calls, usage.bytes_in, usage.bytes_out) == (4, 5, 5)
    assert (usage.not_modified, usage.errors) == (1, {})
    assert usage.seconds > 0


@pytest.mark.parametrize(
    "key", ["", "/", "/a", "a/", "a//b", "..", "../x", "a/../b", ".", "a\nb", 5, None, "\ud800"]
)
def test_keys_that_name_no_object(call, origin, key):
    """Fault 30: a key that is no name, leads out or could be another one is refused."""
    for method, *more in (("load",), ("store", b"x"), ("delete",)):
        with pytest.raises(OriginError, match="key"):
            call(origin, method, key, *more)
    assert list(origin.objects()) == []
    assert origin.usage().calls == 1


def test_read_only_unless_told_otherwise(call, tmp_path):
    """Without writable=True nothing is written, and the error says how to allow it."""
    origin = ObjectStoreOrigin("memory://")
    assert not origin.writable
    (tmp_path / "f").write_bytes(b"x")
    for method, *arguments in (("store", b""), ("delete",), ("upload", tmp_path / "f")):
        with pytest.raises(ReadOnlyOriginError, match="writable=True"):
            call(origin, method, "k", *arguments)
    assert list(origin.objects()) == []


@pytest.mark.parametrize(
    ("key", "value"), [("x", {}), ("x", "text"), ("x.txt", b"b"), ("x.json", b"b")]
)
def test_files_refuse_what_would_come_back_as_something_else(call, tmp_path, key, value):
    """Files have no content type: a value that its name does not fit is refused."""
    origin = ObjectStoreOrigin(f"file://{tmp_path}", writable=True)
    with pytest.raises(OriginError, match="would be read back as"):
        call(origin, "store", key, value)
    assert list(tmp_path.iterdir()) == []


def test_s3_keeps_content_types(call, open_s3):
    """On S3 the type travels with the object, whatever its name."""
    origin = open_s3()
    call(origin, "store", "plain", {"a": 1})
    assert call(origin, "load", "plain").value == {"a": 1}


def test_cache_control_of_an_object(call, open_s3):
    """The Cache-Control of an object says how long it is kept, as that of an HTTP reply does."""
    import obstore

    origin = open_s3()
    said = {"Cache-Control": "max-age=60, must-revalidate", "Content-Type": "text/plain"}
    obstore.put(origin._client.store, "k", b"v", attributes=said)
    answer = call(origin, "load", "k")
    assert (answer.ttl, answer.validators.must_revalidate) == (60.0, True)
    assert call(open_s3(ttl_from_headers=False), "load", "k").ttl is None


# Conditional writes


@pytest.fixture(params=["s3", "memory"])
def conditional(request):
    """Two origins of one store, both with conditional writes, or one where it is not shared."""
    if request.param == "memory":
        return ObjectStoreOrigin("memory://", writable=True, conditional=True)
    return request.getfixturevalue("open_s3")(conditional=True)


def test_writes_that_name_the_version(call, origin, tmp_path):
    """if_match replaces that version alone, if_absent none; files can do only the latter."""
    first = call(origin, "store", "k.txt", "one")
    is_file = origin.name.startswith("file:")
    if call.loop is None:
        with pytest.raises(ConflictError, match="nothing was written"):
            origin.store("k.txt", "two", if_absent=True)
    else:
        with pytest.raises(ConflictError, match="nothing was written"):
            call.loop.run_until_complete(origin.astore("k.txt", "two", if_absent=True))
    if is_file:
        with pytest.raises(OriginError, match="nothing that this kind of store can do"):
            origin.store("k.txt", "two", if_match=first)
    else:
        origin.store("k.txt", "two", if_match=first)
        with pytest.raises(ConflictError):
            origin.store("k.txt", "three", if_match=first)
        with pytest.raises(ConflictError):
            origin.store("gone.txt", "three", if_match=first)
        with pytest.raises(OriginError, match="needs an ETag"):
            origin.store("k.txt", "three", if_match=Validators())
    assert origin.load("k.txt").value == ("one" if is_file else "two")
    assert ("ConflictError", 1 if is_file else 3) in origin.usage().errors.items()


def test_conditional_writes_replace_what_was_seen(call, conditional):
    """With conditional=True a store replaces what the origin saw last, or makes a new object."""
    import obstore

    def elsewhere(body):
        obstore.put(conditional._client.store, "k", body, attributes={"Content-Type": "text/plain"})

    call(conditional, "store", "k", "one")
    call(conditional, "store", "k", "two")
    elsewhere(b"theirs")
    with pytest.raises(ConflictError):
        call(conditional, "store", "k", "three")
    assert call(conditional, "load", "k").value == "theirs"
    call(conditional, "store", "k", "three")
    call(conditional, "delete", "k")
    elsewhere(b"theirs again")
    with pytest.raises(ConflictError):
        call(conditional, "store", "k", "four")


def test_a_conflict_in_a_hybrid_cache(open_s3, tmp_path):
    """Fault 23: under write_through a conflict reaches the writer and leaves the tiers alone."""
    origin, other = open_s3(conditional=True), open_s3()
    with hc.HybridCache(
        hc.Cache(10), hc.Lmdb(tmp_path / "disk"), origin, strategy="write_through"
    ) as store:
        store.put("k", "one")
        other.store("k", "theirs")
        with pytest.raises(ConflictError):
            store.put("k", "two")
        assert store.get("k") == "one"
        current = origin.load("k").value
        store.put("k", current + " and two")
        assert other.load("k").value == store.get("k") == "theirs and two"


def test_files_have_no_conditional_writes(tmp_path):
    """conditional=True over files is refused at once."""
    with pytest.raises(ConfigurationError, match="conditional"):
        ObjectStoreOrigin(f"file://{tmp_path}", conditional=True)


# Objects of any size


BIG = os.urandom(1 << 20) * 20 + b"end"


def test_large_objects_travel_by_files(call, origin, tmp_path):
    """upload and download copy files in parts; open and stream read pieces; nothing is missing."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(BIG)
    marks = call(origin, "upload", "big.bin", source)
    assert marks.etag
    found = call(origin, "download", "big.bin", target)
    assert (found.key, found.size, found.etag) == ("big.bin", len(BIG), marks.etag)
    assert target.read_bytes() == BIG
    if call.loop is None:
        with origin.open("big.bin") as file:
            assert file.read(5) == BIG[:5]
            assert file.read() == BIG[5:]
    else:
        pieces = call.loop.run_until_complete(gather(origin.stream("big.bin")))
        assert b"".join(pieces) == BIG
        if origin.name != "memory://":
            assert max(map(len, pieces)) < 4 << 20
    usage = origin.usage()
    assert (usage.calls, usage.bytes_out, usage.bytes_in) == (3, len(BIG), 2 * len(BIG))


def test_objects_over_the_limit_are_no_values(call, origin):
    """An object over max_body is refused as a value, and can be streamed."""
    origin._max_body = 1000
    call(origin, "store", "big.bin", bytes(1001))
    with pytest.raises(OriginError, match=r"over max_body=1000 bytes; open\(\)"):
        call(origin, "load", "big.bin")
    assert origin.usage().bytes_in == 0
    with origin.open("big.bin") as file:
        assert file.read() == bytes(1001)


def test_what_is_not_there_cannot_be_read(call, origin, tmp_path):
    """A missing object, or file, is told as such, and leaves no file behind."""
    with pytest.raises(NotFoundError):
        call(origin, "download", "none", tmp_path / "target")
    with pytest.raises(NotFoundError):
        origin.open("none")
    with pytest.raises(NotFoundError):
        asyncio.run(gather(origin.stream("none")))
    with pytest.raises(FileNotFoundError):
        call(origin, "upload", "k", tmp_path / "none")
    with pytest.raises(FileNotFoundError):
        call(origin, "download", "none", tmp_path / "no directory" / "target")
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == []


def test_conditional_uploads(call, open_s3, tmp_path):
    """An upload may name the version that it replaces, if it fits into memory."""
    origin = open_s3(max_body=100)
    (tmp_path / "small").write_bytes(b"small")
    (tmp_path / "large").write_bytes(bytes(101))
    first = call(origin, "upload", "k", tmp_path / "small")
    with pytest.raises(ConflictError):
        origin.upload("k", tmp_path / "small", if_absent=True)
    with pytest.raises(OriginError, match="at most max_body=100 bytes"):
        origin.upload("k", tmp_path / "large", if_match=first)
    (tmp_path / "small").write_bytes(b"other")
    second = asyncio.run(origin.aupload("k", tmp_path / "small", if_match=first))
    assert origin.load("k").validators == second != first


MEASURE = """
import json, re, sys
from hybridcore.origins import ObjectStoreOrigin

url, options, source, target = sys.argv[1], json.loads(sys.argv[2]), *sys.argv[3:5]
origin = ObjectStoreOrigin(url, options=options, writable=True, timeout="100s")
origin.store("warm.bin", b"x")
origin.load("warm.bin")

def peak():
    with open("/proc/self/status") as status:
        return 1024 * int(re.search("VmHWM:\\s+(\\d+) kB", status.read())[1])

def growth(step, *args):
    with open("/proc/self/clear_refs", "w") as reset:
        reset.write("5")  # the peak is what it takes now
    before = peak()
    step(*args)
    return peak() - before

print(json.dumps([growth(step, "big.bin", path) for step, path in (
    (origin.upload, source), (origin.download, target)
)]))
"""


has_peak = pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs Linux")


def growth(url, options, size, tmp_path):
    """By how many bytes a process grows that uploads an object and downloads it."""
    source, target = tmp_path / "source", tmp_path / "target"
    with open(source, "wb") as file:
        file.truncate(size)
    command = [sys.executable, "-c", MEASURE, url, json.dumps(options), str(source), str(target)]
    done = subprocess.run(command, check=True, timeout=118, capture_output=True, text=True)
    assert target.stat().st_size == size
    return json.loads(done.stdout)


@has_peak
def test_large_objects_take_little_memory(s3, tmp_path):
    """64 MiB through S3 take the parts that are under way, and not the object."""
    upload, download = growth(f"s3://{s3.make_bucket()}", s3.options, 64 << 20, tmp_path)
    assert upload < 56 << 20
    assert download < 24 << 20


@has_peak
@pytest.mark.slow
def test_a_gibibyte_takes_little_memory(tmp_path):
    """1 GiB to and from a directory takes no more memory than 64 MiB does."""
    (tmp_path / "objects").mkdir()
    upload, download = growth(f"file://{tmp_path}/objects", {}, 1 << 30, tmp_path)
    assert upload < 56 << 20
    assert download < 16 << 20


# Opening and closing


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("ftp://h/x", {}),
        ("http://h/x", {}),
        ("bucket", {}),
        ("s3://", {}),
        ("s3://u:canary@b/x", {}),
        ("s3://b/x?token=canary", {}),
        ("memory://", {"options": {"region": "canary"}}),
        ("memory:///prefix", {}),
        ("file:///no/such/directory/anywhere", {}),
        ("file:///", {"options": {"region": "canary"}}),
        ("s3://b", {"options": {"nonsense": "canary"}}),
        ("s3://b", {"client_options": {"nonsense": "canary"}}),
        ("s3://b", {"client_options": {"pool_idle_timeout": "canary"}}),
        ("az://container", {"options": {"account_key": "canary"}}),
        ("s3://b", {"timeout": 0}),
        ("s3://b", {"total_timeout": float("inf")}),
        ("s3://b", {"retries": -1}),
        ("s3://b", {"max_body": "big"}),
        ("s3://b", {"max_connections": 0}),
    ],
)
def test_options_that_make_no_sense_are_refused(url, options):
    """Fault 32: a wrong option is a ConfigurationError that shows no value of one."""
    with pytest.raises(ConfigurationError) as caught:
        ObjectStoreOrigin(url, **options)
    assert "canary" not in f"{caught.value!r}{caught.value.__cause__!r}"


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("gs://bucket/prefix", {"skip_signature": True}),
        ("az://container/prefix", {"account_name": "me", "account_key": "Y2FuYXJ5"}),
    ],
)
def test_other_stores_open(url, options):
    """Google's and Azure's stores are opened by URL, and show no credentials."""
    origin = ObjectStoreOrigin(url, options=options)
    assert repr(origin) == f"ObjectStoreOrigin({url})"
    assert "Y2FuYXJ5" not in repr(vars(origin))


def test_closed_is_closed(call, origin):
    """After close, which may be called twice, calls are refused."""
    call(origin, "close")
    call(origin, "close")
    with pytest.raises(ClosedError):
        call(origin, "load", "k")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_is_told(tmp_path):
    """Fault 12: a child of a process that used a store is refused; the parent goes on."""
    script = f"""
import os
from hybridcore.errors import OriginError
from hybridcore.origins import ObjectStoreOrigin
origin = ObjectStoreOrigin("file://{tmp_path}")
origin.load("k")
if os.fork() == 0:
    try:
        origin.load("k")
    except OriginError as error:
        os._exit(0 if "forked" in str(error) else 1)
    os._exit(2)
assert os.wait()[1] == 0
origin.load("k")
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_without_obstore_it_says_what_to_install():
    """When obstore is missing, the error names the extra, and the package still imports."""
    script = """
import sys
sys.modules["obstore"] = None
import hybridcore
try:
    hybridcore.ObjectStoreOrigin("memory://")
except ImportError as error:
    assert "pip install hybridcore[objects]" in str(error)
else:
    raise SystemExit("no error")
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
