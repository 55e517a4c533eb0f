"""Opens an LMDB environment of ours: checks whose it is, and makes what is missing in a new one.

Imports lmdb at use.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from hybridcore.disk.directory import DATA_FILE, check_whole
from hybridcore.errors import DiskError

if TYPE_CHECKING:
    from collections.abc import Callable
    from io import BufferedRandom
    from pathlib import Path

    import lmdb

    from hybridcore.disk.layout import Layout

_MAX_READERS = 4096
_STAMP_KEY = b"format"
_PADDING = 1 << 16


class Opened(NamedTuple):
    """An environment, its data file, and its databases by name; ``main`` lists these."""

    env: lmdb.Environment
    file: BufferedRandom
    databases: dict[str, lmdb._Database]
    main: lmdb._Database


def open_lmdb(
    directory: Path,
    map_size: int,
    layout: Layout,
    *,
    synced: bool,
    begin: Callable[[lmdb.Environment], None],
) -> Opened:
    """Open the environment of a directory.

    Args:
        begin: called within the first transaction of one that is new.

    Raises:
        DiskError: it is somebody else's, of another format, or LMDB failed.
    """
    import lmdb

    check_whole(directory)
    try:
        env = lmdb.Environment(
            str(directory),
            map_size=map_size,
            mode=0o700,  # LMDB takes the x bits away: files are 0600
            create=False,
            sync=synced,
            metasync=synced and not layout.settles_later,
            readahead=False,
            max_readers=_MAX_READERS,
            max_dbs=len(layout.databases),
            max_spare_txns=1,
            lib_version=0,
        )
    except lmdb.Error as error:
        raise failure(directory, error) from error
    file = None
    try:
        env.reader_check()
        file = (directory / DATA_FILE).open("r+b")
        # A write transaction even when nothing is new: py-lmdb closes what a reading one
        # opened. Opening outside of one would wait for the writer lock with the GIL held.
        with env.begin(write=True) as txn:
            new = not _check_stamp(directory, layout, env, txn)
            _pad(env, file)
            if new:
                begin(env)
            databases = {
                name: env.open_db(name.encode(), txn=txn, create=new) for name in layout.databases
            }
            main = env.open_db(None, txn=txn)
            if new:
                stamp = f"{_stamp(layout)}{layout.format}"
                txn.put(_STAMP_KEY, stamp.encode(), db=databases["meta"])
    except BaseException as error:
        env.close()
        if file is not None:
            file.close()
        if isinstance(error, lmdb.Error):
            raise failure(directory, error) from error
        raise
    return Opened(env, file, databases, main)


def look_inside(directory: Path, layout: Layout) -> None:
    """Check the stamp without leaving a file behind: nobody of ours has it open."""
    import lmdb

    try:
        with (
            lmdb.Environment(
                str(directory), readonly=True, lock=False, create=False, max_dbs=8
            ) as env,
            env.begin() as txn,
        ):
            _check_stamp(directory, layout, env, txn)
    except lmdb.Error as error:
        raise failure(directory, error) from error


def failure(directory: Path, error: Exception) -> DiskError:
    """The error that tells of an error of LMDB."""
    import lmdb

    advice = ""
    if isinstance(error, (lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.InvalidError)):
        advice = ". The file is damaged; it is a cache: remove the directory to start afresh"
    return DiskError(f"LMDB cannot use {str(directory)!r}: {error}{advice}")


def _pad(env: lmdb.Environment, file: BufferedRandom) -> None:
    """Let the file end behind all that LMDB may look at; called with its writer lock.

    A damaged page makes it look up to 64 KiB past that page, and past the end of the file that
    would end the process. What is added takes no space on the disk.
    """
    least = (env.info()["last_pgno"] + 1) * env.stat()["psize"] + _PADDING
    with suppress(OSError):  # a limit that LMDB will meet as well
        if file.seek(0, os.SEEK_END) < least:
            file.truncate(least)


def _check_stamp(
    directory: Path, layout: Layout, env: lmdb.Environment, txn: lmdb.Transaction[bytes]
) -> bool:
    """Whether the environment is ours; False when it is empty, an error when foreign."""
    import lmdb

    if txn.stat()["entries"] == 0:
        return False
    try:
        meta = env.open_db(b"meta", txn=txn, create=False)
        stamp = txn.get(_STAMP_KEY, b"", db=meta)
    except (lmdb.NotFoundError, lmdb.IncompatibleError):
        stamp = b""
    ours = _stamp(layout).encode()
    number = stamp.removeprefix(ours)
    if not stamp.startswith(ours) or not number.isdigit():
        raise DiskError(
            f"{str(directory)!r} holds somebody else's LMDB environment; it was left "
            "untouched. Choose another directory"
        )
    if int(number) != layout.format:
        raise DiskError(
            f"{str(directory)!r} has {layout.word} format {int(number)}, this "
            f"version of hybridcore reads {layout.format}. Choose another directory, or "
            "remove this one to start afresh"
        )
    return True


def _stamp(layout: Layout) -> str:
    return f"hybridcore {layout.word} "
