"""RedisOrigin against a real server: what comes back, what it costs, and what fails how."""

from __future__ import annotations

import asyncio
import os
import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import hybridcore as hc
from hybridcore.origins import RedisOrigin, redis_url
from hybridcore.types import Loaded, NotFound, Validators
from tests.redis_server import Proxy, RedisServer

pytest.importorskip("redis")

SECRET = "s3cr3t-canary"


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    server = RedisServer(tmp_path_factory.mktemp("redis") / "shared")
    yield server
    server.kill()


@pytest.fixture
def server(shared):
    """The server that all tests share, empty."""
    shared.do("FLUSHALL")
    shared.do("CONFIG", "SET", "maxmemory", "0")
    return shared


@pytest.fixture
def start(tmp_path):
    """Start servers of the test's own."""
    started = []

    def start(*options, **more):
        started.append(RedisServer(tmp_path / f"redis{len(started)}", *options, **more))
        return started[-1]

    yield start
    for server in started:
        server.kill()


@pytest.fixture
def make(call):
    """Make origins of a URL, closed when the test ends."""
    made = []

    def make(url, **options):
        made.append(RedisOrigin(url, **options))
        return made[-1]

    yield make
    for origin in made:
        call(origin, "close")


@pytest.fixture
def origin(server, make):
    return make(server.url)


@pytest.mark.parametrize("key", ["key", b"key", 7, -1.5, None, ("user", 7, "ü")])
@pytest.mark.parametrize("value", [None, "text", b"\x00\xff", {"a": [1, 2.5, {"b": None}]}, 2**70])
def test_what_is_stored_is_loaded(call, origin, key, value):
    """Any key and value of the disk tier comes back as it was, until it is deleted."""
    assert call(origin, "load", key) == NotFound()
    call(origin, "store", key, value)
    assert call(origin, "load", key) == Loaded(value)
    call(origin, "delete", key)
    call(origin, "delete", key)
    assert call(origin, "load", key) == NotFound()


def test_all_that_is_known_of_a_value_travels(call, origin, server):
    """Validators, tags, importance and the ttl that is left come back with a value."""
    entry = Loaded(
        "value", ttl=60, validators=Validators("e1", "today"), importance=3.0, tags=("a", "b")
    )
    call(origin, "store", "key", entry)
    back = call(origin, "load", "key")
    assert (back.value, back.validators, back.importance, back.tags) == (
        "value",
        Validators("e1", "today"),
        3.0,
        ("a", "b"),
    )
    assert 59 < back.ttl <= 60.001
    assert 59_000 < server.do("PTTL", "hybridcore:0key") <= 60_000


@pytest.mark.parametrize(
    ("given", "kept"), [(None, 30_000), (5, 5_000), (0.0005, None), (0, None), (1e12, -1)]
)
def test_the_server_expires(call, make, server, given, kept):
    """A value lives for its own ttl or that of the origin; one of 0 replaces what was there."""
    origin = make(server.url, ttl="30s")
    call(origin, "store", "key", "old")
    call(origin, "store", "key", Loaded("new", ttl=given))
    time.sleep(0.002)
    left = server.do("PTTL", "hybridcore:0key")
    if kept is None:
        assert call(origin, "load", "key") == NotFound()
    elif kept < 0:
        assert left == -1
    else:
        assert kept - 1000 < left <= kept


def test_hosts_whose_clocks_disagree_agree_on_a_ttl(call, make, server, monkeypatch):
    """Fault 10: the time that counts is the server's, a day off or not."""
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() + 86_400 * 10**9)
    ahead = make(server.url)
    call(ahead, "store", "a", Loaded(1, ttl=60))
    monkeypatch.setattr(time, "time_ns", lambda: now() - 86_400 * 10**9)
    behind = make(server.url)
    call(behind, "store", "b", Loaded(2, ttl=60))
    for origin in ahead, behind:
        for answer in call(origin, "load_many", "ab").values():
            assert 59 < answer.ttl <= 60.001


def test_a_thousand_keys_take_one_round_trip(call, make, server):
    """Whatever is loaded, stored or deleted, it is one round trip, and the clock's now and then."""
    proxy = Proxy(server.port)
    try:
        origin = make(proxy.url)
        call(origin, "load", "warm")
        before, calls = proxy.round_trips, origin.usage().calls
        items = {f"key{i}": i for i in range(1000)}
        assert call(origin, "store_many", items) == {}
        answers = call(origin, "load_many", [*items, "other"])
        assert answers == {k: Loaded(v) for k, v in items.items()} | {"other": NotFound()}
        assert call(origin, "delete_many", items) == {}
        assert proxy.round_trips - before == 3
        assert origin.usage().calls - calls == 3
        call(origin, "close")
    finally:
        proxy.close()
    assert server.do("DBSIZE") == 0


def test_more_keys_than_go_at_once(call, make, server, monkeypatch):
    """Beyond the bound of a round trip there are more of them, and nothing is lost between."""
    from hybridcore.origins import redis

    monkeypatch.setattr(redis, "_AT_ONCE", 10)
    monkeypatch.setattr(redis, "_PER_COMMAND", 3)
    origin = make(server.url)
    items = {i: str(i) for i in range(25)}
    assert call(origin, "store_many", items) == {}
    assert call(origin, "load_many", items) == {k: Loaded(v) for k, v in items.items()}
    assert call(origin, "delete_many", items) == {}
    assert set(call(origin, "load_many", items).values()) == {NotFound()}


def test_keys_and_values_that_cannot_be_stored_fail_alone(call, make, server):
    """In a batch each of them is an error of its own; the others are stored and loaded."""
    origin = make(server.url, max_value=200)
    errors = call(origin, "store_many", {"good": 1, 1j: 1, "odd": object(), "big": b"x" * 200})
    assert list(errors) == [1j, "odd", "big"]
    assert isinstance(errors[1j], hc.KeyEncodingError)
    assert isinstance(errors["odd"], hc.EncodeError)
    assert isinstance(errors["big"], hc.ValueTooLargeError)
    answers = call(origin, "load_many", ["good", 1j])
    assert answers["good"] == Loaded(1)
    assert isinstance(answers[1j], hc.KeyEncodingError)
    assert list(call(origin, "delete_many", ["good", 1j])) == [1j]
    with pytest.raises(hc.ValueTooLargeError):
        call(origin, "store", "big", b"x" * 200)


def test_what_is_none_of_ours_is_a_miss(call, origin, server):
    """Fault 9: foreign, damaged and misplaced values are misses, counted, never wrong values."""
    call(origin, "store", "good", "value")
    record = server.do("GET", "hybridcore:0good")
    for key, value in {
        "text": b"somebody else's",
        "short": record[:-1],
        "flipped": record[:-1] + bytes([record[-1] ^ 1]),
        "misplaced": record,
        "empty": b"",
    }.items():
        server.do("SET", f"hybridcore:0{key}", value)
    server.do("LPUSH", "hybridcore:0list", 1)
    bad = ["text", "short", "flipped", "misplaced", "empty", "list"]
    for key in bad:
        assert call(origin, "load", key) == NotFound()
    assert origin.usage().errors == {"DecodeError": 6}
    answers = call(origin, "load_many", ["good", *bad])
    assert answers == {"good": Loaded("value")} | dict.fromkeys(bad, NotFound())


def test_compressed_values_and_codecs(call, make, server):
    """What was compressed is read by whoever has the library; its size in the server shows it."""
    packing = make(server.url, compression=hc.Compression("zstd"))
    call(packing, "store", "key", b"again " * 10_000)
    assert server.do("STRLEN", "hybridcore:0key") < 1000
    assert call(make(server.url), "load", "key") == Loaded(b"again " * 10_000)


def test_prefixes_keep_apart(call, make, server):
    """Origins of one server with different prefixes do not see each other's values."""
    one, other = make(server.url, prefix="one:"), make(server.url, prefix="other:")
    call(one, "store", "key", 1)
    assert call(other, "load", "key") == NotFound()
    assert server.do("KEYS", "*") == [b"one:0key"]


def test_memory_reached(call, origin, server):
    """A server without memory refuses writes, each of them, and goes on to answer."""
    call(origin, "store", "old", 1)
    server.do("CONFIG", "SET", "maxmemory-policy", "noeviction")
    server.do("CONFIG", "SET", "maxmemory", "1mb")
    with pytest.raises(hc.OriginUnavailableError, match="no memory left"):
        call(origin, "store", "new", 1)
    errors = call(origin, "store_many", {"new": 1, "newer": 2})
    assert {key: type(error) for key, error in errors.items()} == dict.fromkeys(
        ["new", "newer"], hc.OriginUnavailableError
    )
    assert call(origin, "load", "old") == Loaded(1)
    assert origin.usage().errors == {"OriginUnavailableError": 3}
    server.do("CONFIG", "SET", "maxmemory", "0")
    call(origin, "store", "new", 1)


def test_a_server_that_hangs(call, make, start):
    """Fault 21: who is not answered in time gets that error, and never the answer to another."""
    server = start()
    origin = make(server.url, timeout=0.2, max_connections=2)
    for key in "ab":
        call(origin, "store", key, key)
    server.freeze()
    started = time.monotonic()
    with pytest.raises(hc.OriginTimeoutError):
        call(origin, "load", "a")
    with pytest.raises(hc.OriginTimeoutError):
        call(origin, "load_many", "ab")
    assert time.monotonic() - started < 5
    server.thaw()
    assert call(origin, "load", "b") == Loaded("b")
    assert call(origin, "load_many", "ba") == {"b": Loaded("b"), "a": Loaded("a")}
    assert origin.usage().errors == {"OriginTimeoutError": 2}


def test_a_server_that_is_paused(call, make, start):
    """One that holds writes back for a while times them out, and takes them again after."""
    server = start()
    origin = make(server.url, timeout=0.1)
    call(origin, "store", "a", 1)
    server.do("CLIENT", "PAUSE", 60_000, "WRITE")
    with pytest.raises(hc.OriginTimeoutError):
        call(origin, "store", "a", 2)
    assert call(origin, "load", "a") == Loaded(1)
    server.do("CLIENT", "UNPAUSE")
    call(origin, "store", "a", 3)
    assert call(origin, "load", "a") == Loaded(3)


def test_a_call_that_is_cancelled_leaves_its_reply_to_nobody(server):
    """The connection of a cancelled call is not used again, or another got its answer."""

    async def main():
        origin = RedisOrigin(server.url, max_connections=1)
        await origin.astore_many({"a": "a", "b": "b"})
        for _ in range(20):
            pending = asyncio.ensure_future(origin.aload("a"))
            await asyncio.sleep(0)
            pending.cancel()
            assert await origin.aload("b") == Loaded("b")
            await asyncio.gather(pending, return_exceptions=True)
        await origin.aclose()

    asyncio.run(main())


def test_a_server_that_is_busy(call, make, start):
    """While a script blocks the server it is unavailable, and works again after."""
    server = start("--busy-reply-threshold", "1")
    origin = make(server.url)
    call(origin, "store", "a", 1)
    with server.client() as client, ThreadPoolExecutor(1) as pool:
        endless = pool.submit(client.eval, "while true do end", 0)
        deadline = time.monotonic() + 20
        while not server.is_busy():
            assert time.monotonic() < deadline
        with pytest.raises(hc.OriginUnavailableError, match="answered BUSY"):
            call(origin, "load", "a")
        server.do("SCRIPT", "KILL")
        assert endless.exception(20) is not None
    assert call(origin, "load", "a") == Loaded(1)


def test_a_replica_takes_no_writes(call, make, start):
    """A server that became a replica is unavailable to who writes."""
    server = start()
    origin = make(server.url)
    call(origin, "store", "a", 1)
    server.do("REPLICAOF", "127.0.0.1", 1)
    with pytest.raises(hc.OriginUnavailableError, match="takes no writes"):
        call(origin, "store", "a", 2)
    assert call(origin, "load", "a") == Loaded(1)


def test_nobody_is_there(call, make, start):
    """A server that is gone is unavailable; one that is back is found again."""
    server = start()
    origin = make(server.url)
    call(origin, "store", "a", 1)
    server.kill()
    for method, argument in ("load", "a"), ("load_many", "a"), ("delete_many", "a"):
        with pytest.raises(hc.OriginUnavailableError, match="cannot be reached"):
            call(origin, method, argument)
    server.start()
    assert call(origin, "load", "a") == NotFound()
    call(origin, "store", "a", 2)
    assert call(origin, "load", "a") == Loaded(2)


@pytest.mark.parametrize("way", ["url", "argument"])
def test_credentials(call, make, start, caplog, way):
    """Fault 32: the right password works; a wrong one and none are told, and never shown."""
    server = start("--requirepass", SECRET)

    def with_password(text):
        if way == "argument":
            return make(server.url, password=text)
        return make(server.url.replace("//", f"//:{text}@"))

    good, bad, none = with_password(SECRET), with_password(SECRET + "!"), make(server.url)
    call(good, "store", "a", 1)
    assert call(good, "load", "a") == Loaded(1)
    for method, argument in ("load", "a"), ("load_many", "ab"), ("delete", "a"):
        with pytest.raises(hc.OriginError, match="refused the credentials") as told:
            call(bad, method, argument)
        assert SECRET not in repr(told.value)
    with pytest.raises(hc.OriginError, match=r"needs a password|refused the credentials"):
        call(none, "load", "a")
    assert not isinstance(told.value, hc.OriginUnavailableError)
    assert SECRET not in f"{good!r}{good.name}{bad.usage()}{caplog.text}"
    assert SECRET not in repr(redis_url.parse(f"redis://u:{SECRET}@h"))


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://h", "expected to begin with one of redis, .*got 'http'"),
        (f"h:{SECRET}", "got 'one without a scheme'"),
        (f"redis://u:{SECRET}", "host:port"),
        (f"redis://:{SECRET}@h:99999", "host:port"),
        (f"redis://:{SECRET}@h/one", "expected to be a number"),
        (f"redis://:{SECRET}@h/1/2", "number of the database"),
        (f"redis://:{SECRET}@h,i", "expected to have one host, got 2"),
        (f"redis://:{SECRET}@h?socket_timeout=1", "takes db as a query, got 'socket_timeout'"),
        (f"redis+sentinel://:{SECRET}@h", "expected to end with the name of the service"),
        (f"redis+cluster://:{SECRET}@h/2", "database 0 only"),
        ("unix://", "path of a socket"),
    ],
)
def test_urls_that_make_no_sense(url, said):
    """Each is refused at once, with what was expected and without its secret."""
    with pytest.raises(hc.ConfigurationError, match=said) as told:
        RedisOrigin(url)
    assert SECRET not in str(told.value)


@pytest.mark.parametrize(
    ("url", "shown", "options"),
    [
        ("redis://", "redis://localhost:6379", {}),
        ("rediss://u:p%40@h:1/2", "rediss://h:1/2", {"username": "u", "password": "p@", "db": 2}),
        ("unix:///a/b?db=3", "unix:///a/b", {"path": "/a/b", "db": 3}),
        (
            "redis+sentinel://:p@a,[::1]:7/main/1",
            "redis+sentinel://a:26379,::1:7/main/1",
            {"password": "p", "db": 1},
        ),
        (
            "rediss+cluster://a:1,b:2?ssl_ca_certs=/ca",
            "rediss+cluster://a:1,b:2",
            {"ssl_ca_certs": "/ca"},
        ),
    ],
)
def test_urls(url, shown, options):
    """A URL is taken apart into hosts and options; what is shown of it has no secrets."""
    parsed = redis_url.parse(url)
    assert (parsed.shown, parsed.options) == (shown, options)


@pytest.mark.parametrize(
    "option", [{"timeout": 0}, {"retries": -1}, {"max_connections": 0}, {"max_connections": True}]
)
def test_options_that_make_no_sense(option):
    """A bound that nothing can keep is refused by its name."""
    with pytest.raises(hc.ConfigurationError, match=next(iter(option))):
        RedisOrigin(**option)


def test_a_unix_socket(call, make, start, tmp_path):
    """The server may be reached by a socket of the file system, and any database of it."""
    start("--unixsocket", str(tmp_path / "socket"))
    origin = make(f"unix://{tmp_path / 'socket'}?db=2")
    call(origin, "store", "a", 1)
    assert call(origin, "load", "a") == Loaded(1)


def test_sentinel(call, make, start):
    """By Sentinel the master is found, and found again when it is another one."""
    master, other = start(), start()
    watcher = start(sentinel=True)
    watcher.do("SENTINEL", "MONITOR", "main", "127.0.0.1", master.port, 1)
    origin = make(f"redis+sentinel://127.0.0.1:{watcher.port}/main")
    call(origin, "store", "a", 1)
    assert call(origin, "load_many", "a") == {"a": Loaded(1)}
    assert master.do("EXISTS", "hybridcore:0a")
    watcher.do("SENTINEL", "REMOVE", "main")
    watcher.do("SENTINEL", "MONITOR", "main", "127.0.0.1", other.port, 1)
    master.kill()
    deadline = time.monotonic() + 20
    while True:
        try:
            call(origin, "store", "a", 2)
            break
        except hc.OriginUnavailableError:
            assert time.monotonic() < deadline
    assert other.do("EXISTS", "hybridcore:0a")
    with pytest.raises(hc.OriginUnavailableError):
        call(make(f"redis+sentinel://127.0.0.1:{watcher.port}/nobody"), "load", "a")


def test_cluster(call, make, start):
    """In a cluster keys live on many nodes; batches are split, and one node lost is told."""
    nodes = [start("--cluster-enabled", "yes", "--cluster-node-timeout", "1000") for _ in range(3)]
    for node, first, last in zip(nodes, (0, 5461, 10923), (5460, 10922, 16383), strict=True):
        node.do("CLUSTER", "ADDSLOTSRANGE", first, last)
        node.do("CLUSTER", "SET-CONFIG-EPOCH", nodes.index(node) + 1)
        node.do("CLUSTER", "MEET", "127.0.0.1", nodes[0].port)
    deadline = time.monotonic() + 30
    while not all(b"cluster_state:ok" in node.do("CLUSTER", "INFO") for node in nodes):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    origin = make("redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in nodes))
    items = {i: f"v{i}" for i in range(300)}
    assert call(origin, "store_many", items) == {}
    assert call(origin, "load_many", items) == {k: Loaded(v) for k, v in items.items()}
    assert all(node.do("DBSIZE") > 50 for node in nodes)
    call(origin, "store", "a", 1)
    assert call(origin, "load", "a") == Loaded(1)
    assert call(origin, "delete_many", [*items, "a"]) == {}
    assert call(origin, "load", "a") == NotFound()
    nodes[1].kill()
    try:
        answers = list(call(origin, "load_many", items).values())
    except hc.OriginUnavailableError as error:  # all of them, or those of the node
        answers = [error]
    errors = [answer for answer in answers if isinstance(answer, Exception)]
    assert errors
    assert all(isinstance(error, hc.OriginUnavailableError) for error in errors)


def test_threads_share_a_pool(server):
    """More threads than connections wait for one, and get their own answers."""
    origin = RedisOrigin(server.url, max_connections=2, timeout=20)
    origin.store_many({i: i for i in range(200)})
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(origin.load, range(200))) == [Loaded(i) for i in range(200)]
    assert server.do("INFO", "clients")["connected_clients"] <= 3
    origin.close()


def test_event_loops_have_clients_of_their_own(server):
    """An origin works on one loop after the other, and from threads meanwhile."""
    origin = RedisOrigin(server.url)

    async def main(key):
        await origin.astore(key, key)
        assert origin.load(key) == await origin.aload(key) == Loaded(key)
        await origin._clients.of_loop().aclose()

    for key in "ab":
        asyncio.run(main(key))
    origin.close()


def test_a_forked_child_connects_anew(server):
    """Fault 12: parent and child go on with connections of their own."""
    origin = RedisOrigin(server.url)
    origin.store("a", 1)
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if origin.load("a") == Loaded(1) and origin.usage().calls == 1 else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert origin.load("a") == Loaded(1)
    origin.close()


def test_a_closed_one_says_so(call, origin):
    """After close there is an error that tells it, also when closed twice."""
    call(origin, "close")
    call(origin, "close")
    with pytest.raises(hc.ClosedError):
        call(origin, "load", "a")


@pytest.mark.parametrize("strategy", ["write_through", "write_behind"])
def test_caches_of_two_hosts_share_it(server, strategy):
    """What one cache puts the other gets, with the ttl that is left and no longer."""
    here = hc.HybridCache(hc.Memory(10), origin=RedisOrigin(server.url), strategy=strategy)
    there = hc.HybridCache(hc.Memory(10), origin=RedisOrigin(server.url))
    with here, there:
        here.put("a", 1, ttl=60)
        here.put("b", 2)
        assert here.get_many("ab") == {"a": 1, "b": 2}
        assert here.flush(20)
        assert there.get_many("ab") == {"a": 1, "b": 2}
        assert 59 < there.entry("a").ttl_left <= 60.001
        assert there.entry("b").ttl_left is None
        here.delete("a")
        here.flush(20)
        there.clear()
        assert there.get("a") is None
        assert there.stats().usage.calls > 0


def test_a_queued_write_is_seen_as_its_value(start):
    """While the server is gone, reads see what waits for it, and not what is sent to it."""
    server = start()
    origin = RedisOrigin(server.url)
    with hc.HybridCache(
        hc.Memory(10),
        origin=origin,
        strategy="write_behind",
        queue=hc.MemoryQueue(origin, base_delay=0.01, max_backoff=0.05),
    ) as store:
        store.put("a", "first")
        assert store.flush(20)
        server.kill()
        store.put("a", "second")
        store.memory.clear()
        assert store.get("a") == "second"
        server.start()
        assert store.flush(20)
        assert origin.load("a") == Loaded("second")


def test_a_durable_queue_keeps_the_ttl(server, tmp_path):
    """What waits on disk comes to the server with its ttl, and is read as its value meanwhile."""
    origin = RedisOrigin(server.url)
    with hc.HybridCache(
        hc.Memory(10),
        origin=origin,
        strategy="write_behind",
        queue=hc.WriteQueue(tmp_path / "queue", origin, durability="process"),
    ) as store:
        store.put("a", {"b": 1}, ttl=60)
        store.put("c", 2)
        store.memory.clear()
        assert store.get("a") == {"b": 1}
        assert store.flush(20)
        answers = origin.load_many("ac")
        assert 58 < answers["a"].ttl <= 60.001
        assert answers["c"] == Loaded(2)


def test_changes_are_told(server):
    """What others store, delete and let expire is told by its key, and nothing else is."""
    told = queue.Queue()
    listening, changing = RedisOrigin(server.url), RedisOrigin(server.url)
    stop = listening.track(told.put)
    changing.store("a", 1)
    changing.store(("b", 2), Loaded(1, ttl=0.05))
    changing.delete("a")
    server.do("SET", "elsewhere", 1)
    server.do("SET", "hybridcore:\xff", 1)
    assert [told.get(timeout=20) for _ in range(4)] == [["a"], [("b", 2)], ["a"], [("b", 2)]]
    server.do("FLUSHALL")
    assert told.get(timeout=20) is None
    stop()
    stop()
    changing.store("c", 1)
    assert told.empty()
    listening.close()
    changing.close()


def test_lost_changes_are_told_of(start, monkeypatch):
    """Fault 25: after a lost connection anything may have changed, and it goes on from there."""
    from hybridcore.origins import redis_tracking

    monkeypatch.setattr(redis_tracking, "AGAIN", 0.01)
    server = start()
    told = queue.Queue()
    origin = RedisOrigin(server.url)
    origin.track(told.put)
    server.kill()
    server.start()
    assert told.get(timeout=20) is None
    origin.store("a", 1)
    assert told.get(timeout=20) == ["a"]
    server.do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    assert told.get(timeout=20) is None
    origin.close()
    assert "hybridcore-redis-tracking" not in {thread.name for thread in threading.enumerate()}
    server.kill()
    with pytest.raises(hc.OriginUnavailableError):
        RedisOrigin(server.url).track(told.put)
    with pytest.raises(hc.ConfigurationError, match="not tracked over a cluster"):
        RedisOrigin("redis+cluster://127.0.0.1:1").track(told.put)


def test_a_cache_hears_of_changes(server):
    """A cache that forgets what it is told of sees the writes of others at once."""
    here, there = (
        hc.HybridCache(hc.Memory(10), origin=RedisOrigin(server.url), strategy="write_through")
        for _ in range(2)
    )
    locally = hc.EntryOptions(strategy="read_through")

    def forget(keys):
        if keys is None:
            here.clear()
        else:
            for key in keys:
                here.delete(key, options=locally)

    with here, there:
        here._engine.origin.track(forget)
        there.put("a", 1)
        assert here.get("a") == 1
        there.put("a", 2)
        deadline = time.monotonic() + 20
        while here.get("a") != 2:
            assert time.monotonic() < deadline
        there.delete("a")
        while here.get("a") is not None:
            assert time.monotonic() < deadline


TTL = 0.2


def test_killed_and_restarted_under_load(start):
    """Fault 24: who has a copy gets it, writes resume, and nothing is older than it may be."""
    server = start("--appendonly", "yes", "--appendfsync", "always")
    writes, reads = (RedisOrigin(server.url, retries=0) for _ in range(2))
    writer = hc.HybridCache(
        hc.Memory(1000),
        origin=writes,
        strategy="write_behind",
        queue=hc.MemoryQueue(writes, base_delay=0.01, max_backoff=0.05, retries=1000),
    )
    reader = hc.HybridCache(
        hc.Memory(1000),
        origin=reads,
        defaults=hc.EntryOptions(ttl=TTL, stale=60, throttle=0.01),
        breaker=hc.Breaker(failures=3, open_for=0.1),
    )
    keys = range(50)
    stop = threading.Event()
    raised = []

    def read(first):
        while not stop.is_set():
            for key in keys[first::4]:
                try:
                    reader.get(key)
                except Exception as error:
                    raised.append(error)
                time.sleep(0.0005)

    def write(value):
        for key in keys:
            writer.put(key, value)

    write(0)
    assert writer.flush(20)
    assert reader.get_many(keys) == dict.fromkeys(keys, 0)
    with ThreadPoolExecutor(4) as pool:
        readers = [pool.submit(read, first) for first in range(4)]
        try:
            for attempt in 1, 2, 3:
                time.sleep(TTL)
                server.kill()
                write(attempt)
                time.sleep(2 * TTL)
                assert set(reader.get_many(keys).values()) == {attempt - 1}
                server.start()
                assert writer.flush(20), "writes did not resume"
                deadline = time.monotonic() + 20
                while set(reader.get_many(keys).values()) != {attempt}:
                    assert time.monotonic() < deadline, "what is old is served for ever"
                assert all(reader.entry(key).ttl_left <= TTL for key in keys)
        finally:
            stop.set()
        for one in readers:
            one.result()
    assert raised == []
    assert reader.stats().origin.stale_served > 0
    assert writer.stats().queue.dropped == 0
    assert reader.stats().usage.errors["OriginUnavailableError"] > 0
    reader.close()
    writer.close()
