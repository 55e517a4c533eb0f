"""What is done with a whole data file: verify, compact, back up, start afresh.

Imports lmdb at use.
"""

from __future__ import annotations

import os
from contextlib import suppress
from io import FileIO
from typing import TYPE_CHECKING

from hybridcore.disk.directory import DATA_FILE, LOCK_FILE, NEW_FILE, STATE_FILE, remove_data
from hybridcore.disk.durability import line, sync_directory
from hybridcore.disk.ledger import Ledger
from hybridcore.errors import DiskError

if TYPE_CHECKING:
    from pathlib import Path

    import lmdb

    from hybridcore.disk.environment import Environment

_PATIENCE_SECONDS = 0.02
"""For those who read; who has none left clears entry by entry."""


def verify(environment: Environment) -> list[str]:
    """What is wrong with the pages of the file; nothing in an empty list.

    The file is read without LMDB. What writers change meanwhile may look like damage, so that
    damage is looked at again while they wait.

    Raises:
        DiskError: the file cannot be read, or was removed or replaced.
    """
    environment.check_in_place()
    if not _problems(environment):
        return []
    return environment.while_nobody_writes(lambda: _problems(environment))


def _problems(environment: Environment) -> list[str]:
    from lmdb.verify import VerifyError
    from lmdb.verify import verify as problems_of

    try:
        return list(problems_of(str(environment.directory), subdir=True))  # type: ignore[no-untyped-call]
    except VerifyError as error:
        return [str(error)]
    except OSError as error:
        raise DiskError(f"cannot verify {str(environment.directory)!r}: {error}") from error


def compact(environment: Environment) -> int:
    """Write the entries into a new file without gaps, and put it in the place of the other.

    Returns by how many bytes the file became smaller.

    Raises:
        DiskError: other processes have the directory open, the disk is full, or LMDB failed;
            nothing was changed.
    """
    directory = environment.directory
    new = directory / NEW_FILE
    before = environment.file_bytes()

    def exchange() -> None:
        new.replace(directory / DATA_FILE)
        (directory / LOCK_FILE).unlink(missing_ok=True)

    with environment.alone("compacted") as env:
        environment.check_in_place()
        if (directory / DATA_FILE).stat().st_nlink > 1:
            raise DiskError(
                f"{str(directory / DATA_FILE)!r} has another name (a hard link), which would keep "
                "the old file. Remove that name first"
            )
        try:
            new.unlink(missing_ok=True)
            _copy(environment, env, new)
        except BaseException:
            new.unlink(missing_ok=True)
            raise
        environment.swap(exchange)
    environment.sync()
    return before - environment.file_bytes()


def backup(environment: Environment, path: Path) -> None:
    """Write the entries, as they are now, into a new directory.

    Raises:
        DiskError: the path exists already, or cannot be written; nothing was left there.
    """
    try:
        path.mkdir(mode=0o700)
    except FileExistsError as error:
        raise DiskError(f"{str(path)!r} exists already; a backup overwrites nothing") from error
    except OSError as error:
        raise DiskError(f"cannot make {str(path)!r}: {error}") from error
    try:
        with environment.reading():
            environment.check_in_place()
            _copy(environment, environment.current(), path / DATA_FILE)
        with _create(path / STATE_FILE) as stream:
            stream.write(line(dirty=False))
            os.fsync(stream.fileno())
        sync_directory(path)
        sync_directory(path.parent)
    except BaseException as error:
        for name in (DATA_FILE, STATE_FILE):
            (path / name).unlink(missing_ok=True)
        with suppress(OSError):
            path.rmdir()
        if isinstance(error, OSError) and not isinstance(error, DiskError):
            raise DiskError(f"cannot write {str(path)!r}: {error}") from error
        raise


def start_afresh(environment: Environment) -> int:
    """Remove the file and make a new one; return how many entries it said it had.

    No entry is read, so that damage does no harm. The versions go on.

    Raises:
        NotAloneError: others use the directory; nothing was changed.
    """
    import lmdb

    entries, version = 0, environment.marks.now
    with environment.alone("cleared", _PATIENCE_SECONDS) as env:
        environment.check_in_place()
        with suppress(lmdb.Error), env.begin(buffers=True) as txn:
            before = Ledger(environment, txn)
            entries, version = before.entries, max(version, before.version)
        environment.swap(lambda: remove_data(environment.directory))

    def go_on(txn: lmdb.Transaction[memoryview]) -> None:
        ledger = Ledger(environment, txn)
        ledger.version = max(ledger.version, version)
        ledger.settle()

    environment.write(go_on)
    return entries


def _copy(environment: Environment, env: lmdb.Environment, file: Path) -> None:
    import lmdb

    try:
        with _create(file) as stream:
            env.copyfd(stream.fileno(), compact=True)
            os.fsync(stream.fileno())
    except lmdb.Error as error:
        raise environment.failed(error) from error
    except OSError as error:
        raise DiskError(f"cannot write {str(file)!r}: {error}") from error


def _create(file: Path) -> FileIO:
    """A new file that only its owner may read."""
    return FileIO(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
