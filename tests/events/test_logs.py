"""Logging: the same message now and then, and no key in clear."""

from __future__ import annotations

import logging

from hybridcore import logs
from hybridcore.logs import RateLimitedLog, hashed, raised_by


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def make(**options):
    clock = Clock()
    return RateLimitedLog(logging.getLogger("tested"), interval=10, clock=clock, **options), clock


def test_same_message_is_told_once_in_an_interval(caplog):
    """The first at once, the next after the interval with the number held back."""
    log, clock = make()
    for n in range(5):
        assert log.warning("tier %s failed", n) is (n == 0)
    clock.now += 9.9
    assert not log.warning("tier %s failed", 5)
    clock.now += 0.1
    assert log.warning("tier %s failed", 6)
    assert log.info("tier is back") is False  # the level is off
    assert caplog.messages == ["tier 0 failed", "tier 6 failed (5 more like this since the last)"]
    clock.now += 10
    assert log.warning("tier %s failed", 7)
    assert caplog.messages[-1] == "tier 7 failed"


def test_messages_about_different_things_are_different(caplog):
    """What a message is about makes it another one."""
    log, _ = make()
    for about in ("a", "b", "a"):
        log.warning("failed: %s", about, about=about)
    assert caplog.messages == ["failed: a", "failed: b"]


def test_memory_is_bounded(monkeypatch):
    """However many things there are to tell about, few are remembered."""
    monkeypatch.setattr(logs, "_MOST_MESSAGES", 3)
    log, _ = make()
    assert all(log.warning("failed", about=n) for n in range(10))
    assert len(log._told) == 3
    assert not log.warning("failed", about=9)
    assert log.warning("failed", about=0)


def test_keys_are_not_shown():
    """A key is a short hash that tells keys apart, unless asked for."""
    log, _ = make()
    shown = log.shown("user:ann@example.com")
    assert shown == log.shown("user:ann@example.com") == hashed("user:ann@example.com")
    assert shown != log.shown("user:bob@example.com")
    assert "ann" not in shown
    assert len(shown) == 9
    assert make(log_keys=True)[0].shown("k") == "'k'"
    assert hashed("\ud800")  # not text that can be encoded


def test_error_is_told_without_its_text():
    """Its type and where it was raised are enough."""
    try:
        raise KeyError("secret")
    except KeyError as error:
        told = raised_by(error)
    assert told.startswith("KeyError at ")
    assert "test_logs.py" in told
    assert "secret" not in told
    assert raised_by(KeyError("secret")) == "KeyError"
