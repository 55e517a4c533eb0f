"""How commands print: tables for people, JSON for programs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from hybridcore.cli import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def print_json(content: Any) -> None:
    """Print as JSON; what JSON does not know as its repr."""
    import msgspec

    encoded = msgspec.json.encode(content, enc_hook=repr)
    sys.stdout.write(msgspec.json.format(encoded).decode() + "\n")


def print_table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table; the first column is left-aligned, and nothing in it is taken for markup."""
    try:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError as error:
        raise UsageError("tables need rich: pip install hybridcore[cli], or use --json") from error
    table = Table(box=None, header_style="bold")
    for number, title in enumerate(titles):
        table.add_column(title, justify="right" if number else "left")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)
