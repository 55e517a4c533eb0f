"""Warming after a start: from a hot set, the disk tier, a peer's directory, or a recorded trace."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from threading import Event, Thread
from time import monotonic
from typing import TYPE_CHECKING, Any

from hybridcore.errors import ConfigurationError, HybridCoreError, NotFoundError
from hybridcore.logs import RateLimitedLog, raised_by
from hybridcore.types import Loaded
from hybridcore.units import Duration, Size, seconds
from hybridcore.warming.hot_set import read_hot_set, save_hot_set
from hybridcore.warming.manual import Report, keys_in

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

    from hybridcore.warming.warmer import Warmer

log = RateLimitedLog(logging.getLogger("hybridcore"))

_PEER_BYTES = "1GiB"


class Startup:
    """What is warmed after a start, in this order, as far as it is given and time allows.

    The hot set and the trace are keys: what of them is fresh on disk is promoted, the rest is
    loaded from the origin. From disk and from a peer no call of the origin is made.

    Args:
        hot_set: a file; read at the start, written when the warmer closes, and every
            ``save_every`` in case it does not come to that.
        from_disk: promote what is fresh there, the most used first.
        peer: the directory of another `Lmdb`; its fresh entries are copied.
        trace: a file with a key a line; the most frequent ones are loaded first.
        parse: makes a key of a line of the trace.
        count: keys at most of each source.
        within: how long it may take in all.
        required: `Warmer.is_ready` is False until it is done.
        peer_bytes: ``max_bytes`` of the peer's directory.
    """

    name = "startup"

    def __init__(
        self,
        *,
        hot_set: str | os.PathLike[str] | None = None,
        save_every: Duration = "5m",
        from_disk: bool = True,
        peer: str | os.PathLike[str] | None = None,
        trace: str | os.PathLike[str] | None = None,
        parse: Callable[[str], Any] = str,
        count: int = 100_000,
        within: Duration = "30s",
        required: bool = False,
        peer_bytes: Size = _PEER_BYTES,
    ) -> None:
        if count < 1:
            raise ConfigurationError(f"count is expected to be at least 1, got {count!r}")
        self._hot_set = None if hot_set is None else Path(hot_set)
        self._save_every = seconds(save_every)
        self._from_disk = from_disk
        self._peer = None if peer is None else Path(peer)
        self._trace = None if trace is None else Path(trace)
        self._parse = parse
        self._count = count
        self._within = seconds(within)
        self._required = required
        self._peer_bytes = peer_bytes
        self._done = Event()
        self._save_at: float | None = None
        self.report: dict[str, Report] = {}
        """What came of each source."""

    @property
    def is_ready(self) -> bool:
        """Whether readers may come: it is done, or was not required."""
        return self._done.is_set() or not self._required

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is done; False if that takes longer."""
        return self._done.wait(timeout)

    def begin(self, warmer: Warmer) -> None:
        """Warm, in a thread of its own if the warmer has one, too."""
        if warmer.is_threaded:
            Thread(
                target=self._run, args=(warmer,), name="hybridcore-warm-start", daemon=True
            ).start()
        else:
            self._run(warmer)

    def _run(self, warmer: Warmer) -> None:
        deadline = monotonic() + self._within
        try:
            for source, warm in self._sources(warmer):
                left = deadline - monotonic()
                if left <= 0:
                    break
                try:
                    self.report[source] = warm(left)
                except (HybridCoreError, ValueError, OSError) as error:
                    log.warning("the start was not warmed from %s: %s", source, raised_by(error))
        finally:
            self._done.set()

    def _sources(self, warmer: Warmer) -> Iterator[tuple[str, Callable[[float], Report]]]:
        def warm(keys: list[Any], left: float, **options: Any) -> Report:
            return warmer.warm(
                keys[: self._count], within=left, budgeted=True, strategy=self.name, **options
            )

        if self._hot_set is not None:
            path = self._hot_set
            yield "hot_set", lambda left: warm(read_hot_set(path), left)
        if self._from_disk:
            shelf = warmer.shelf
            yield "disk", lambda left: warm(shelf.hottest_on_disk(self._count), left, ask=False)
        if self._peer is not None:
            peer = self._peer
            yield "peer", lambda left: self._from_peer(peer, warm, left)
        if self._trace is not None:
            trace = self._trace

            def from_trace(left: float) -> Report:
                counts = Counter(map(self._parse, keys_in(trace)))
                return warm([key for key, _ in counts.most_common(self._count)], left)

            yield "trace", from_trace

    def _from_peer(self, peer: Path, warm: Callable[..., Report], left: float) -> Report:
        from hybridcore.disk import Lmdb
        from hybridcore.warming.shelf import hottest_of

        if not (peer / "data.mdb").is_file():
            raise FileNotFoundError(f"there is no disk tier in {peer}")
        with Lmdb[Any, Any](peer, max_bytes=self._peer_bytes, sweep=None) as disk:

            def copy(key: Any) -> Loaded[Any]:
                record = disk.fetch(key)
                if record is None or not record.fresh:
                    raise NotFoundError(f"the peer has no fresh {key!r}")
                return Loaded(record.value, record.ttl_left, record.validators, record.cost)

            return warm(hottest_of(disk, self._count), left, loader=copy)

    def keep_hot_set(self, warmer: Warmer, now: float) -> None:
        """Save the hot set when it is time."""
        if self._hot_set is None or not self._save_every:
            return
        if self._save_at is None:
            self._save_at = now + self._save_every
        elif now >= self._save_at:
            self._save_at = now + self._save_every
            self._save(warmer)

    def end(self, warmer: Warmer) -> None:
        """The warmer closes: save the hot set, unless there was no time to warm up."""
        if self._hot_set is not None and self._done.is_set():
            self._save(warmer)

    def _save(self, warmer: Warmer) -> None:
        assert self._hot_set is not None
        try:
            save_hot_set(self._hot_set, warmer.shelf.hottest(self._count))
        except OSError as error:
            log.warning("the hot set was not saved: %s", raised_by(error))
