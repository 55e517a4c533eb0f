"""Modules to import in the place of others: `functools`, `cachetools`, `diskcache`."""
