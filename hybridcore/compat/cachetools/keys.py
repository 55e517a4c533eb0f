"""The key functions of cachetools: those of `hybridcore.keys`."""

from hybridcore.keys import hashkey, methodkey, typedkey, typedmethodkey

__all__ = ["hashkey", "methodkey", "typedkey", "typedmethodkey"]
