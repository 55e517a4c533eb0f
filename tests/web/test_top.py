"""``hybridcore top`` shows the same in the terminal, driven by textual's pilot."""

from __future__ import annotations

import asyncio

import pytest
from textual.widgets import DataTable, Sparkline, Static

import hybridcore as hc
from hybridcore.cli import main
from hybridcore.cli.top_screen import Top
from hybridcore.monitoring.watched import WatchedDirectory, WatchedStore
from hybridcore.monitoring.watcher import Watcher


@pytest.fixture
def watcher(store, tmp_path):
    """The store, and a directory beside it."""
    hc.Lmdb(tmp_path / "other").close()
    watched = [WatchedStore("users", store), WatchedDirectory(tmp_path / "other")]
    watcher = Watcher(watched, interval=0.05)
    yield watcher
    watcher.close()


def driven(watcher, script, size=(120, 60)):
    """Run a script with the screen and its pilot."""

    async def run():
        screen = Top(watcher)
        async with screen.run_test(size=size) as pilot:
            await until(pilot, lambda: screen.query_one("#caches", DataTable).row_count)
            await script(screen, pilot)

    asyncio.run(run())


async def until(pilot, condition):
    for _ in range(600):
        if condition():
            return
        await pilot.pause(0.05)
    raise AssertionError("it did not come to that")


def cells(screen, table):
    """The texts of a table."""
    found = screen.query_one(f"#{table}", DataTable)
    return [[str(cell) for cell in found.get_row_at(row)] for row in range(found.row_count)]


def test_it_shows_what_there_is_and_goes_on(watcher, store) -> None:
    """Tables of the cache the cursor is on, lines of its lookups, and news without a key."""

    async def script(screen, pilot):
        assert [row[0] for row in cells(screen, "caches")] == ["users", "other"]
        assert [row[0] for row in cells(screen, "tiers")] == ["memory", "disk", "origin"]
        assert [row[0] for row in cells(screen, "queue")] == ["urgent", "normal", "low"]
        assert "now" in str(screen.query_one("#curve", Static).render())
        await until(pilot, lambda: len(screen.query_one("#memory-spark", Sparkline).data or []) > 1)
        store.invalidate("later", cause="seen live")
        await until(pilot, lambda: cells(screen, "invalidations")[0][-1] == "seen live")
        await pilot.press("down")
        await until(pilot, lambda: [row[0] for row in cells(screen, "tiers")] == ["disk"])
        assert not screen.query_one("#queue").display
        await pilot.press("q")

    driven(watcher, script)


def test_keys_are_text(watcher) -> None:
    """Neither markup nor escape sequences come through."""

    async def script(screen, pilot):
        letter = cells(screen, "letters")[0]
        assert letter[1].startswith("'<img src=x")
        assert r"\x1b[31m\u202e\ud800" in letter[1]
        assert cells(screen, "invalidations")[0][3] == "tag '<i>tag</i>'"

    driven(watcher, script)


def test_letters_are_replayed(watcher, rows) -> None:
    """The one under the cursor by r, all by a; the outcome is told."""

    async def script(screen, pilot):
        rows.refuses = False
        screen.query_one("#letters", DataTable).focus()
        await pilot.press("down", "r")
        await until(pilot, lambda: rows.written == {"row 2": 2})
        await until(pilot, lambda: len(cells(screen, "letters")) == 1)
        await pilot.press("a")
        await until(pilot, lambda: len(rows.written) == 2)
        await until(pilot, lambda: not screen.query_one("#letters").display)
        await pilot.press("r")
        await until(pilot, lambda: len(screen._notifications) == 3)

    driven(watcher, script)


def test_it_fits_a_small_terminal(watcher) -> None:
    """40 columns and 12 lines are enough to look around in."""

    async def script(screen, pilot):
        await pilot.press("tab", "tab", "shift+tab", "down", "up")
        assert cells(screen, "caches")

    driven(watcher, script, size=(40, 12))


def test_it_needs_a_terminal(tmp_path, capsys) -> None:
    """What is no terminal is told what else there is."""
    hc.Lmdb(tmp_path / "cache").close()
    assert main(["top", str(tmp_path / "cache")]) == 2
    assert "top needs a terminal" in capsys.readouterr().err
    assert main(["top", str(tmp_path / "none")]) == 2
    assert "neither a disk tier" in capsys.readouterr().err
