"""What is wrong with the directory of a disk tier or a write queue, and what cures it."""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata, util
from typing import TYPE_CHECKING, Any, Literal

from hybridcore.disk.directory import DATA_FILE, STATE_FILE, check_names, check_whole, prepare
from hybridcore.disk.durability import boot_id, line
from hybridcore.disk.layout import DISK
from hybridcore.errors import DiskError, HybridCoreError
from hybridcore.write_queue.journal import LAYOUT as QUEUE

if TYPE_CHECKING:
    from pathlib import Path

    import lmdb

Level = Literal["error", "warning", "note"]

_NEARLY_FULL = 0.9
_BEHIND = 1000
"""Transactions that a reader may be behind the newest one."""
_AHEAD = 60.0
"""Seconds that a clock may be ahead."""
_WAITS = 60.0
"""Seconds that a write may wait in a queue."""
_MODULES = {"opentelemetry-sdk": "opentelemetry.sdk", "prometheus-client": "prometheus_client"}
_MODULES |= {"sqlalchemy": "sqlalchemy", "redis": "redis"}
"""Names of modules where those of the distributions do not tell them."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that was found: how bad it is, a word for it, a sentence, and the cure."""

    level: Level
    code: str
    text: str
    cure: str = ""


def examine(directory: Path) -> list[Finding]:
    """Look at a directory, and at what is installed; the worst findings come first.

    Nothing is changed, and whoever uses it goes on; but not in the process that has it open.
    """
    found = [*_directory(directory), *_installed()]
    order = ("error", "warning", "note")
    return sorted(found, key=lambda one: order.index(one.level))


def _directory(directory: Path) -> list[Finding]:
    if not directory.is_dir():
        cure = "Give the directory of an Lmdb tier or of a WriteQueue; they make it when opened."
        return [Finding("error", "missing", f"there is no directory {directory}", cure)]
    found = list(_permissions(directory))
    try:
        prepare(directory)  # whose it is, links, and where it is mounted
    except DiskError as error:
        return [*found, Finding("error", "refused", *_parted(error))]
    try:
        check_names(directory)
        has_data = check_whole(directory)
    except DiskError as error:
        return [*found, Finding("error", "damaged", *_parted(error))]
    if not has_data:
        cure = "Nothing is wrong if no process has opened it yet."
        return [*found, Finding("warning", "empty", f"{directory} holds no cache", cure)]
    found += _boot(directory)
    found += _clock(directory)
    found += _environment(directory)
    return found


def _parted(error: Exception) -> tuple[str, str]:
    """The message of an error as what is wrong and what to do: they end with the way out."""
    text = str(error)
    start = max(text.rfind(". "), text.rfind("; "))
    if start < 0:
        return text, ""
    cure = text[start + 2 :]
    return text[:start], f"{cure[:1].upper()}{cure[1:]}."


def _permissions(directory: Path) -> list[Finding]:
    found = []
    if os.name == "posix" and directory.stat().st_mode & 0o077:
        text = f"others than its owner may enter {directory}"
        found.append(Finding("warning", "permissions", text, f"chmod 700 {directory}"))
    for path in (directory, directory / DATA_FILE, directory / STATE_FILE):
        if path.exists() and not os.access(path, os.R_OK | os.W_OK):
            text = f"this user may not read and write {path}"
            cure = f"Run as the user who owns it, or chown -R it: {_owner(path)}."
            found.append(Finding("error", "permissions", text, cure))
    return found


def _owner(path: Path) -> str:
    with suppress(KeyError, NotImplementedError, ImportError):
        return f"it belongs to {path.owner()}"
    return f"it belongs to user {path.stat().st_uid}"


def _boot(directory: Path) -> list[Finding]:
    try:
        said = (directory / STATE_FILE).read_bytes()
    except FileNotFoundError:
        return []  # of somebody else, or about to be made
    except OSError as error:
        text = f"its state cannot be read: {error.strerror}"
        return [Finding("warning", "state", text, "It is made anew when the directory is opened.")]
    if said in (line(dirty=False), line(dirty=True)) or not said.strip(b"\0"):
        return []
    match = re.search(rb"dirty ([0-9a-f-]{36})", said)
    if match is None:
        text = f"{STATE_FILE} is not as hybridcore writes it"
        return [Finding("error", "state", text, "Remove the directory if it is a cache.")]
    text = "there were unsynced writes when the machine went down"
    if match[1].decode() == boot_id():
        text = "its stamp of this boot is damaged"
    cure = "A cache is emptied, and a queue set aside, when it is opened next. Use durability="
    return [Finding("warning", "boot", text, cure + '"power" where that must not happen.')]


def _clock(directory: Path) -> list[Finding]:
    ahead = (directory / DATA_FILE).stat().st_mtime - time.time()
    if ahead <= _AHEAD:
        return []
    text = f"it was written {ahead:.0f} s in the future: the clock was set back"
    return [Finding("warning", "clock", text, "Entries live longer by that; synchronize clocks.")]


def _environment(directory: Path) -> list[Finding]:
    import lmdb

    try:
        with lmdb.Environment(str(directory), readonly=True, create=False, max_dbs=8) as env:
            layout = _layout(env)
            if isinstance(layout, Finding):
                return [layout]
            found = [*_space(env, directory), *_readers(env)]
    except lmdb.Error as error:
        if "already open" in str(error):
            text = "this process has it open, so LMDB cannot be asked about it"
            return [Finding("note", "open_here", text, "Ask `store.health()`, or run the command.")]
        cure = "If it is a cache: remove the directory and let it fill again."
        return [Finding("error", "damaged", f"LMDB cannot open it: {error}", cure)]
    if layout == QUEUE.word and not any(one.code == "boot" for one in _boot(directory)):
        found += _queue(directory)
    return found


def _layout(env: lmdb.Environment) -> str | Finding:
    import lmdb

    try:
        with env.begin() as txn:
            stamp = bytes(txn.get(b"format", b"", db=env.open_db(b"meta", txn=txn, create=False)))
    except (lmdb.NotFoundError, lmdb.IncompatibleError, lmdb.ReadonlyError):
        stamp = b""
    match = re.fullmatch(r"hybridcore (\w+) (\d+)", stamp.decode("ascii", "replace"))
    known = {layout.word: layout.format for layout in (DISK, QUEUE)}
    if match is None or match[1] not in known:
        text = "it holds an LMDB environment of somebody else"
        return Finding("error", "foreign", text, "Give hybridcore a directory of its own.")
    if int(match[2]) != known[match[1]]:
        text = f"it has {match[1]} format {match[2]}, this version reads {known[match[1]]}"
        cure = "Use the version of hybridcore that wrote it, or remove it to start afresh."
        return Finding("error", "format", text, cure)
    return match[1]


def _space(env: lmdb.Environment, directory: Path) -> list[Finding]:
    info, page = env.info(), env.stat()["psize"]
    used, most = (info["last_pgno"] + 1) * page, info["map_size"]
    found = []
    if used > _NEARLY_FULL * most:
        text = f"pages that were ever used take {used:,} bytes of a map of {most:,}"
        cure = "See whether a reader pins old pages (below); compact() it, or raise max_bytes."
        found.append(Finding("warning", "map", text, cure))
    grows = most - (directory / DATA_FILE).stat().st_size
    free = shutil.disk_usage(directory).free
    if free < grows:
        level: Level = "error" if free < 16 * 2**20 else "warning"
        text = f"the file may grow by {grows:,} bytes, and {free:,} are free on its file system"
        cure = "Free some, lower max_bytes, or move it to a larger file system."
        found.append(Finding(level, "disk", text, cure))
    return found


def _readers(env: lmdb.Environment) -> list[Finding]:
    newest, most = env.info()["last_txnid"], env.info()["max_readers"]
    slots: Counter[int] = Counter()
    behind: dict[int, int] = {}
    for text in env.readers().splitlines():
        fields = text.split()
        if len(fields) == 3 and fields[0].isdigit():
            process = int(fields[0])
            slots[process] += 1
            if fields[2].isdigit():
                behind[process] = max(behind.get(process, 0), newest - int(fields[2]))
    found = []
    if dead := sorted(process for process in slots if not _lives(process)):
        text = f"{sum(slots[one] for one in dead)} slots of readers belong to dead processes {dead}"
        cure = "The next write of a process that has it open clears them."
        found.append(Finding("note", "stale_readers", text, cure))
    if slots.total() > _NEARLY_FULL * most:
        text = f"{slots.total()} of {most} slots of readers are taken"
        cure = f"Run fewer processes or threads on it; most has {slots.most_common(1)[0][0]}."
        found.append(Finding("error", "readers", text, cure))
    for process, transactions in behind.items():
        if transactions > _BEHIND and process not in dead:
            text = f"process {process} reads a state {transactions:,} transactions old"
            cure = "Pages freed since cannot be used again: end its iteration, backup or process."
            found.append(Finding("warning", "pinned", text, cure))
    return found


def _lives(process: int) -> bool:
    if process == os.getpid() or sys.platform == "win32":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _queue(directory: Path) -> list[Finding]:
    from hybridcore.write_queue import WriteQueue

    owners = len(list(directory.glob("owner-*")))
    found = []
    try:
        with WriteQueue(directory) as queue:  # without a target it brings nothing out
            stats = queue.stats()
            others = len(list(directory.glob("owner-*"))) - 1  # the dead were swept
    except HybridCoreError as error:
        return [Finding("error", "queue", *_parted(error))]
    if stats.depth and not others:
        text = f"{stats.depth} writes wait and no process has the queue open"
        cure = "Start a process that opens it with its target."
        found.append(Finding("error", "not_drained", text, cure))
    elif stats.oldest > _WAITS:
        text = f"the oldest of {stats.depth} writes waits for {stats.oldest:.0f} s"
        cure = "See whether the target answers; `hybridcore queue` shows the levels."
        found.append(Finding("warning", "not_drained", text, cure))
    if owners > others:
        text = f"{owners - others} processes ended without closing the queue"
        found.append(Finding("note", "owners", text, "What they had claimed is taken back."))
    if stats.dead:
        text = f"{stats.dead} writes were given up"
        cure = "`hybridcore dlq` lists them with their errors, and replays or purges them."
        found.append(Finding("warning", "dead_letters", text, cure))
    return found


def _installed() -> list[Finding]:
    import lmdb

    versions = [f"hybridcore {metadata.version('hybridcore')}"]
    versions += [f"Python {sys.version.split()[0]}", f"lmdb {lmdb.__version__}"]
    versions.append("LMDB " + ".".join(map(str, lmdb.version())))
    found = [Finding("note", "versions", ", ".join(versions))]
    if lmdb.version()[:2] != (0, 9):
        cure = "Install an lmdb that brings LMDB 0.9: pip install --force-reinstall lmdb"
        found.append(Finding("error", "lmdb", "its LMDB is not of the series 0.9", cure))
    missing: dict[str, list[str]] = {}
    for text in metadata.requires("hybridcore") or ():
        match = re.match(r"([A-Za-z0-9_.-]+).*extra\s*==\s*['\"]([\w-]+)['\"]", text)
        if match is not None and not _is_there(match[1]):
            missing.setdefault(match[2], []).append(match[1])
    for extra, names in sorted(missing.items()):
        text = f"the extra {extra} lacks {', '.join(sorted(set(names)))}"
        cure = f"Where its features are wanted: pip install 'hybridcore[{extra}]'"
        found.append(Finding("note", "extra", text, cure))
    return found


def _is_there(distribution: str) -> bool:
    with suppress(metadata.PackageNotFoundError):
        metadata.version(distribution)
        return True
    with suppress(ImportError, ValueError):
        return (
            util.find_spec(_MODULES.get(distribution, distribution.replace("-", "_"))) is not None
        )
    return False


def as_dict(finding: Finding) -> dict[str, Any]:
    """As plain data."""
    return {name: getattr(finding, name) for name in Finding.__slots__}
