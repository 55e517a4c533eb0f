"""CPython's own tests of mappings, run against an unbounded cache.

Documented differences: a cache has no ``fromkeys``, since it needs a bound, and its ``repr`` names
the class.
"""

from __future__ import annotations

from typing import Any

import pytest

from hybridcore import Cache

mapping_tests = pytest.importorskip(
    "test.mapping_tests", reason="this Python comes without its own tests", exc_type=ImportError
)


class Unbounded(Cache[Any, Any]):
    """Made like a dict."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(None)
        self.update(*args, **kwargs)


class Protocol:
    type2test = Unbounded

    @pytest.mark.skip(reason="a cache needs a bound")
    def test_fromkeys(self) -> None: ...

    @pytest.mark.skip(reason="repr names the class")
    def test_repr(self) -> None: ...


class TestMappingProtocol(Protocol, mapping_tests.TestMappingProtocol):  # type: ignore[misc]
    """What every mapping does."""


class TestHashMappingProtocol(Protocol, mapping_tests.TestHashMappingProtocol):  # type: ignore[misc]
    """What a mapping of hashable keys does."""
