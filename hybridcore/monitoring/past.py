"""`Past`: what rules look at, kept in a file, so that a process that starts knows its past."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import MsgspecError
from msgspec.msgpack import Decoder, encode

from hybridcore.logs import RateLimitedLog, raised_by
from hybridcore.monitoring.signals import Kept

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from hybridcore.monitoring.signals import History

log = RateLimitedLog(logging.getLogger("hybridcore"))

_EVERY = 300.0
"""Seconds between two times that it is saved: so much a process that is killed forgets."""


class Past:
    """Histories by cache, of one process at a time, in a file of some 100 KiB a cache.

    A file that cannot be read is logged and begun anew, as one that cannot be written is.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._saved_at: float | None = None
        self._found: dict[str, Kept] = {}
        try:
            self._found = Decoder(dict[str, Kept]).decode(self._path.read_bytes())
        except FileNotFoundError:
            pass
        except (OSError, MsgspecError) as error:
            log.warning(
                "%s tells nothing of the past: %s", self._path, raised_by(error), about=self._path
            )

    def restore(self, cache: str, history: History, now: float) -> None:
        """Have a history go on where it was kept."""
        kept = self._found.pop(cache, None)
        if kept is not None:
            try:
                history.restore(kept, now)
            except ValueError as error:
                log.warning("%s has a damaged past: %s", self._path, raised_by(error), about=cache)

    def keep(self, histories: Mapping[str, History], at: float) -> None:
        """Save it when it is time to."""
        if self._saved_at is None:
            self._saved_at = at
        elif at >= self._saved_at + _EVERY:
            self._saved_at = at
            self.save(histories)

    def save(self, histories: Mapping[str, History]) -> None:
        """Put it in the place of what was kept before."""
        told = self._found | {name: history.kept() for name, history in histories.items()}
        new = self._path.with_name(f"{self._path.name}.new")
        try:
            new.write_bytes(encode(told))
            new.replace(self._path)
        except OSError as error:
            log.warning("the past of alerts was not saved: %s", raised_by(error))
