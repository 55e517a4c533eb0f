"""Options of a queue that make no sense are refused when it is opened."""

from __future__ import annotations

import pytest

from hybridcore.errors import ConfigurationError
from hybridcore.write_queue import WriteQueue

UNCHECKED = pytest.mark.xfail(strict=True, reason="found out later, or never")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("level_of", "low"),
        pytest.param("lease", 0, marks=UNCHECKED),  # claims are renewed without a pause
        pytest.param("max_bytes", 0, marks=UNCHECKED),  # takes nothing
        pytest.param("redelivery", 5, marks=UNCHECKED),
        pytest.param("compression", "zstd", marks=UNCHECKED),
        pytest.param("codecs", 5, marks=UNCHECKED),
        pytest.param("on_dead", 5, marks=UNCHECKED),
    ],
)
def test_options_that_make_no_sense(tmp_path, name, value):
    """They are refused when the queue is opened, and nothing is made."""
    with pytest.raises(ConfigurationError, match=name):
        WriteQueue(tmp_path / "q", **{name: value}).close()
    assert not (tmp_path / "q").exists()
