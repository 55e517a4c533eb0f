"""Events from outside: what they invalidate, webhooks, and the sources that publish them."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time

import httpx
import pytest

from hybridcore import ConfigurationError, HybridCache, Lmdb, Memory
from hybridcore.invalidation.handlers import EventError, Invalidate
from hybridcore.invalidation.sources import Files, RedisKeyspace, RedisStream
from tests.redis_server import RedisServer

SECRET = "a secret that nobody guesses"


def eventually(condition, seconds=5.0):
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.005)


@pytest.fixture
def store(tmp_path):
    with HybridCache(Memory(100), Lmdb(tmp_path / "cache", max_bytes="8MiB")) as cache:
        yield cache


def fill(store, *keys):
    for key in keys:
        store.put(key, "value", tags=["all"])


def held(store, *keys):
    return [key for key in keys if store.get(key) is not None]


def test_an_event_invalidates_what_its_function_tells(store):
    """Keys, tags, prefixes, globs and functions; other entries stay."""
    tells = {
        "keys": ["repo:a"],
        "tags": Invalidate(tags=("all",)),
        "prefix": Invalidate(prefix="repo:"),
        "tuples": Invalidate(prefix=("user",)),
        "glob": Invalidate(matching="*:b"),
        "function": Invalidate(matching=lambda key: key == ("user", 7)),
    }
    stay = {
        "keys": ["repo:b", "team:b", ("user", 7)],
        "tags": [],
        "prefix": ["team:b", ("user", 7)],
        "tuples": ["repo:a", "repo:b", "team:b"],
        "glob": ["repo:a", ("user", 7)],
        "function": ["repo:a", "repo:b", "team:b"],
    }
    store.on_event("test.*")(lambda payload: tells[payload])
    keys = ["repo:a", "repo:b", "team:b", ("user", 7)]
    for name in tells:
        fill(store, *keys)
        assert store.publish(f"test.{name}", name)
        assert held(store, *keys) == stay[name], name


def test_a_function_may_invalidate_by_itself_and_choose_its_events(store):
    """What returns None told nothing; ``when`` keeps other payloads away."""

    @store.on_event("deploy", when=lambda payload: payload["to"] == "production")
    def deployed(payload):
        store.invalidate("page")

    fill(store, "page")
    store.publish("deploy", {"to": "staging"})
    assert held(store, "page")
    store.publish("deploy", {"to": "production"})
    assert not held(store, "page")


def test_an_event_with_an_id_is_handled_once_by_all_processes(store, tmp_path):
    """Also after a restart; but again after a function failed, so at least once."""
    calls = []

    @store.on_event("x")
    def handle(payload):
        calls.append(payload)
        if len(calls) == 1:
            raise RuntimeError("not yet")

    with pytest.raises(EventError, match="not yet"):
        store.publish("x", 1, id="7")
    assert store.publish("x", 1, id="7") is True
    assert store.publish("x", 1, id="7") is False
    store.close()
    with HybridCache(None, Lmdb(tmp_path / "cache", max_bytes="8MiB")) as again:
        assert again.publish("x", 1, id="7") is False
    assert calls == [1, 1]


def test_a_function_that_returns_something_else_is_told_so(store):
    """A single str is most likely a key without its list."""
    store.on_event("x")(lambda payload: "key")
    with pytest.raises(EventError, match="expected to return keys"):
        store.publish("x")


# -- webhooks -------------------------------------------------------------------------------------


def post(app, body, *, secret=SECRET, event="push", method="POST", **headers):
    """Send a request to the application and return the status."""
    if isinstance(body, dict):
        body = json.dumps(body).encode()
    signature = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    sent = {"X-Hub-Signature-256": signature, "X-GitHub-Event": event, "X-GitHub-Delivery": "1"}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}

    async def run():
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app), base_url="http://test"
        ) as client:
            answer = await client.request(
                method, "/", content=body, headers={k: v for k, v in sent.items() if v is not None}
            )
            return answer.status_code

    return asyncio.run(run())


@pytest.fixture
def webhook(store):
    store.on_event("github.push")(lambda payload: [f"repo:{payload['repository']['name']}"])
    fill(store, "repo:a")
    return store.webhook(SECRET, max_bytes=10_000)


def push(**more):
    return {"after": "1", "repository": {"name": "a", "pushed_at": int(time.time()), **more}}


def test_a_signed_webhook_invalidates(store, webhook):
    """When it answers 204, what the event tells is invalidated."""
    assert post(webhook, push()) == 204
    assert not held(store, "repo:a")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"X_Hub_Signature_256": None}, 401),
        ({"X_Hub_Signature_256": "sha256=" + "0" * 64}, 401),
        ({"X_Hub_Signature_256": "sha256="}, 401),
        ({"X_Hub_Signature_256": None, "X_Hub_Signature": "sha1=" + "0" * 40}, 401),
        ({"secret": "another secret of some length"}, 401),
        ({"method": "GET"}, 405),
        ({"event": ""}, 400),
    ],
)
def test_what_is_not_signed_right_is_refused(store, webhook, headers, status):
    """Without, with a wrong, with a weaker signature: nothing is invalidated (Fault 31)."""
    assert post(webhook, push(), **headers) == status
    assert held(store, "repo:a")


def test_a_replayed_webhook_does_nothing(store, webhook):
    """The same body counts once, whatever its delivery id; old ones do not at all (Fault 31)."""
    body = push()
    assert post(webhook, body) == 204
    fill(store, "repo:a")
    assert post(webhook, body, X_GitHub_Delivery="2") == 200
    assert post(webhook, push(pushed_at=int(time.time()) - 7200)) == 403
    assert held(store, "repo:a")


def test_a_body_that_is_too_large_is_not_read_to_its_end(store, webhook):
    """By what it says it is, and by what it turns out to be."""
    assert post(webhook, b"x" * 20_000) == 413
    assert post(webhook, b"{}", Content_Length="20000") == 413
    pieces = []

    async def receive():
        pieces.append(b"x" * 4000)
        return {"type": "http.request", "body": pieces[-1], "more_body": True}

    answers = []

    async def send(message):
        answers.append(message)

    asyncio.run(webhook({"type": "http", "method": "POST", "headers": []}, receive, send))
    assert answers[0]["status"] == 413
    assert len(pieces) == 3


def test_a_webhook_whose_function_failed_is_to_be_sent_again(store, webhook):
    """500, and it is not counted as seen; what is no JSON is refused."""
    assert post(webhook, {"repository": {}}) == 500
    assert post(webhook, {"repository": {}}) == 500
    assert post(webhook, b"payload=%7B%7D") == 415


def test_a_short_secret_is_refused(store):
    """It could be guessed."""
    with pytest.raises(ConfigurationError, match="at least 16 bytes"):
        store.webhook("short")
    with pytest.raises(ConfigurationError, match="needs a secret"):
        store.webhook()


# -- sources --------------------------------------------------------------------------------------


@pytest.fixture
def redis(tmp_path):
    server = RedisServer(tmp_path / "redis")
    yield server
    server.kill()


def test_a_stream_of_redis_is_followed_over_a_disconnect(store, redis):
    """Entries are events; those that came while the connection was down are not missed."""
    seen = []
    store.on_event("changed")(lambda payload: seen.append(payload["id"]))
    redis.do("XADD", "changes", "*", "event", "changed", "id", "0")
    source = RedisStream(redis.url, "changes")
    store.follow(source)
    eventually(lambda: source._position is not None)
    redis.do("XADD", "changes", "*", "event", "changed", "id", "1")
    eventually(lambda: seen == ["1"])
    redis.do("CLIENT", "KILL", "TYPE", "normal")
    redis.do("XADD", "changes", "*", "event", "changed", "id", "2")
    eventually(lambda: seen == ["1", "2"])


def test_keys_of_redis_are_watched(store, redis):
    """What changes a key in Redis invalidates its copy; after a disconnect anything may have."""
    store.on_event("redis.key")(lambda payload: [payload["key"]])
    missed = []
    store.on_event("missed")(missed.append)
    fill(store, "user:1", "team:1")
    store.follow(RedisKeyspace(redis.url, "user:*", configure=True))
    eventually(lambda: redis.do("PUBSUB", "NUMPAT") == 1)
    redis.do("SET", "team:1", "x")
    redis.do("SET", "user:1", "x")
    eventually(lambda: not held(store, "user:1"))
    assert held(store, "team:1")
    redis.kill()
    redis.start()
    eventually(lambda: missed)


def test_files_are_watched(store, tmp_path):
    """A file that changes invalidates what was made of it."""
    directory = tmp_path / "pages"
    directory.mkdir()
    page = directory / "a.md"
    page.write_text("1")
    store.on_event("file")(lambda payload: [payload["path"]])
    fill(store, str(page))
    store.follow(Files(directory))
    version = 0

    def changed():
        nonlocal version
        version += 1
        page.write_text(str(version))  # the watch may not have begun with the first one
        time.sleep(0.05)
        return not held(store, str(page))

    eventually(changed)
    with pytest.raises(ConfigurationError, match="there is no"):
        Files(tmp_path / "nowhere")
