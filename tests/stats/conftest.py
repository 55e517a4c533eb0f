"""A store of all tiers, over a table."""

from tests.whole_store import store, table

__all__ = ["store", "table"]
