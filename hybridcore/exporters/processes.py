"""A directory in which the processes of a service tell what they counted, and which adds it up."""

from __future__ import annotations

import atexit
import logging
import math
import os
import random
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Lock, Thread
from time import time
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakMethod, finalize, ref

import msgspec

from hybridcore.exporters.metrics import Buckets, Family, Labels, merged
from hybridcore.forks import start_afresh_after_forks
from hybridcore.logs import RateLimitedLog, raised_by

try:
    import fcntl
except ImportError:  # Windows, where one process is scraped
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from hybridcore.exporters.sources import Sources

log = RateLimitedLog(logging.getLogger("hybridcore"))

_GONE = "gone.json"
"""What processes counted that have ended, and the files that are in it already."""


class Shared:
    """Tells what this process counts in a directory, every so often and when it exits.

    One file a process, replaced as a whole. What a process counted stays when it has ended; how
    much of what it had, it does not. What it counted in its last ``interval`` is lost if it dies
    without exiting. A forked child tells in a file of its own.

    Args:
        directory: made if missing, with mode 0700.
        interval: seconds; 0: only when asked, and at exit.
    """

    def __init__(
        self, sources: Sources, directory: str | os.PathLike[str], interval: float = 1.0
    ) -> None:
        self.directory = Path(directory).absolute()
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._sources = sources
        self._interval = interval
        self._finalize: Any = None
        told = WeakMethod(self._exit)
        atexit.register(lambda: None if (exit := told()) is None else exit())
        sources.families()  # imports what it needs: a fork amid imports of a thread never ends
        self.start_afresh()
        start_afresh_after_forks(self)

    def start_afresh(self) -> None:
        """Begin a file of this process, and a thread that writes it."""
        self._lock = Lock()
        self._file = (
            self.directory / f"{os.getpid()}-{random.SystemRandom().getrandbits(48):x}.json"
        )
        self._closed = Event()
        if self._finalize is not None:
            self._finalize.detach()
        self._finalize = finalize(self, self._closed.set)
        if self._interval > 0:
            Thread(
                target=_publish_often,
                args=(ref(self), self._closed, self._interval),
                name="hybridcore-statistics",
                daemon=True,
            ).start()

    def publish(self) -> None:
        """Tell now what this process has counted."""
        with self._lock:
            told = _Told(os.getpid(), _began(os.getpid()), time(), self._sources.families())
            _write(self._file, told)

    def families(self) -> list[Family]:
        """What all processes told, this one as of now."""
        self.publish()
        return collect(self.directory)

    def close(self) -> None:
        """Tell a last time; what was counted stays in the directory."""
        if not self._closed.is_set():
            self._closed.set()
            self.publish()

    def _exit(self) -> None:
        if not self._closed.is_set():
            with suppress(Exception):
                self.close()


def _publish_often(shared_ref: ref[Shared], closed: Event, interval: float) -> None:
    """Run by the thread, which does not keep alive what nobody else knows."""
    while not closed.wait(interval):
        shared = shared_ref()
        if shared is None:
            return
        try:
            shared.publish()
        except Exception as error:
            log.warning("statistics were not published: %s", raised_by(error))
        del shared


def collect(directory: str | os.PathLike[str]) -> list[Family]:
    """What the processes told that have published in a directory, added up.

    Processes that have ended are put together in one file. Gauges are those of the living.
    """
    path = Path(directory)
    with _alone(path):
        gone, folded = _gone(path / _GONE)
        alive: list[Family] = []
        dead: list[Path] = []
        for file in sorted(path.glob("*-*.json")):
            if file.name in folded:
                file.unlink(missing_ok=True)
                continue
            told = _read(file)
            if told is None:
                continue
            if _began(told.pid) == told.began:
                alive += told.families
            else:
                dead.append(file)
                gone += [family for family in told.families if family.kind != "gauge"]
        gone = merged(gone)
        if dead:
            _write(path / _GONE, _Told(0, "", time(), gone), [file.name for file in dead])
            for file in dead:
                file.unlink(missing_ok=True)
    return merged([*alive, *gone])


class _Told(NamedTuple):
    pid: int
    began: str | None
    at: float
    families: list[Family]


def _write(file: Path, told: _Told, folded: Iterable[str] = ()) -> None:
    """Replace a file as a whole."""
    rows = [
        {
            "name": family.name,
            "kind": family.kind,
            "help": family.help,
            "merge": family.merge,
            "samples": [
                [
                    labels,
                    [value.counts, value.sum] if isinstance(value, Buckets) else value,
                ]
                for labels, value in family.samples.items()
            ],
        }
        for family in told.families
    ]
    document = {
        "pid": told.pid,
        "began": told.began,
        "at": told.at,
        "folded": list(folded),
        "families": rows,
    }
    new = file.with_suffix(f".{os.getpid()}.new")
    new.write_bytes(msgspec.json.encode(document))
    new.replace(file)


def _read(file: Path) -> _Told | None:
    """What a file tells; None when it is gone, or nothing of ours."""
    document = _document(file)
    if document is None:
        return None
    found = []
    try:
        for row in document["families"]:
            samples: dict[Labels, float | Buckets] = {}
            for labels, value in row["samples"]:
                known = tuple((name, text) for name, text in labels)
                if row["kind"] == "histogram":
                    samples[known] = Buckets(tuple(value[0]), value[1])
                else:
                    samples[known] = math.inf if value is None else value
            found.append(Family(row["name"], row["kind"], row["help"], samples, row["merge"]))
        return _Told(document["pid"], document["began"], document["at"], found)
    except (KeyError, TypeError, ValueError, IndexError):
        log.warning("a file of statistics is not understood", about=str(file))
        return None


def _document(file: Path) -> dict[str, Any] | None:
    try:
        document = msgspec.json.decode(file.read_bytes())
    except (OSError, msgspec.DecodeError):
        return None
    return document if isinstance(document, dict) else None


def _gone(file: Path) -> tuple[list[Family], set[str]]:
    """What was counted by processes that have ended, and the files that this is from."""
    told = _read(file)
    if told is None:
        return [], set()
    return told.families, set((_document(file) or {}).get("folded", ()))


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Nobody else puts files together meanwhile, or reads while somebody does."""
    with open(directory / "lock", "ab") as lock:
        if fcntl is not None:
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _began(pid: int) -> str | None:
    """What tells a process from another one that gets its number later; None: it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return None
    except OSError:
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:
        pass
    return "alive"
