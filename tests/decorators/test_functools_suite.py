"""What CPython asks of its `functools`, asked of ours: its own test bodies, where they are."""

from __future__ import annotations

import unittest

import pytest

from hybridcore.compat import functools

suite = pytest.importorskip(
    "test.test_functools", reason="this Python was installed without its own tests"
)


@pytest.fixture(autouse=True)
def as_the_compiled_one(monkeypatch) -> None:
    """The bodies expect more of the compiled module than of the one in Python."""
    monkeypatch.setattr(suite, "c_functools", functools)


@functools.lru_cache
def cached_func(x, y):
    return 3 * x + y


class TestLruCache(suite.TestLRU, unittest.TestCase):
    """``lru_cache``."""

    module = functools
    cached_func = (cached_func,)

    @functools.lru_cache
    def cached_meth(self, x, y):
        return 3 * x + y

    @staticmethod
    @functools.lru_cache
    def cached_staticmeth(x, y):
        return 3 * x + y


class TestCache(suite.TestCache, unittest.TestCase):
    """``cache``."""

    module = functools
