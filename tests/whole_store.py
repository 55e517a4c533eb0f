"""A store of all tiers, for whoever counts what becomes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import hybridcore as hc

if TYPE_CHECKING:
    from collections.abc import Iterator


class Table:
    """An origin of a dict: an exception among its values is raised, and writes are taken."""

    def __init__(self) -> None:
        self.values: dict[Any, Any] = {}

    def load(self, key: Any) -> Any:
        value = self.values.get(key, hc.NotFound())
        if isinstance(value, BaseException):
            raise value
        return value

    def store(self, key: Any, value: Any) -> None:
        if isinstance(value, BaseException):
            raise value
        self.values[key] = value


@pytest.fixture
def table() -> Table:
    table = Table()
    table.values = {f"key {number}": "v" * 100 for number in range(100)}
    return table


@pytest.fixture
def store(tmp_path: Any, table: Table) -> Iterator[hc.HybridCache[Any, Any]]:
    origin = hc.CallableOrigin(table.load, store=table.store)
    with hc.HybridCache(
        memory=hc.Memory("1MiB"),
        disk=hc.Lmdb(tmp_path / "disk"),
        origin=origin,
        strategy="write_through",
        defaults=hc.EntryOptions(throttle=0, negative_ttl=0),
    ) as store:
        yield store
