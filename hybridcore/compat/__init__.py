"""Modules to import in the place of others: `hybridcore.compat.functools`."""
