"""What is checked before LMDB sees a directory: whose it is, and whether its file is whole."""

from __future__ import annotations

import os
import stat
import struct
from contextlib import suppress
from typing import TYPE_CHECKING

from hybridcore.errors import DiskError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DATA_FILE = "data.mdb"
LOCK_FILE = "lock.mdb"

_META_PAGES = 2
# An LMDB 0.9 meta page after its 16 bytes of page header: magic, version, address, map size,
# free list (it begins with the page size) and main tree of 48 bytes each, last page, transaction.
_META = struct.Struct("=II QQ I44x 48x QQ")
_META_OFFSET = 16
_MAGIC = 0xBEEFC0DE
_DATA_VERSION = 1
_PAGE_SIZES = {1 << power for power in range(8, 16)}


def prepare(directory: Path) -> tuple[int, int]:
    """Make the directory (mode 0700) or check it; return its identity, (device, inode).

    Raises:
        DiskError: it is a symlink, belongs to somebody else, or cannot be made.
    """
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            directory.mkdir(mode=0o700)
        found = directory.lstat()
    except OSError as error:
        raise DiskError(f"cannot make the cache directory {str(directory)!r}: {error}") from error
    _check_own(directory, found, stat.S_ISDIR, "directory")
    for name in (DATA_FILE, LOCK_FILE):
        file = directory / name
        try:
            _check_own(file, file.lstat(), stat.S_ISREG, "regular file")
        except FileNotFoundError:
            continue
    return found.st_dev, found.st_ino


def check_whole(directory: Path) -> bool:
    """Check the data file, if there is one, without LMDB; return whether there is one.

    Reading mapped pages past the end of a file that was cut off would end the process.

    Raises:
        DiskError: it is not LMDB's, or it is shorter than LMDB needs it.
    """
    file = directory / DATA_FILE
    try:
        with file.open("rb") as stream:
            first = stream.read(4096)
            if not first:
                return False
            meta, page_size = _parse_meta(file, first)
            stream.seek(page_size)
            second, _ = _parse_meta(file, stream.read(4096))
            last_page = max(meta, second)[1]
            size = os.fstat(stream.fileno()).st_size
    except FileNotFoundError:
        return False
    except PermissionError as error:
        raise DiskError(f"cannot read {str(file)!r}: {error}") from error
    if size < (last_page + 1) * page_size and not _only_free_pages_missing(directory):
        raise DiskError(
            f"{str(file)!r} was cut off: it has {size} bytes where its own records need up to "
            f"{(last_page + 1) * page_size}. It is a cache: remove the directory and let it "
            "fill again"
        )
    return True


def _check_own(
    path: Path, found: os.stat_result, is_kind: Callable[[int], bool], kind: str
) -> None:
    if stat.S_ISLNK(found.st_mode):
        raise DiskError(
            f"{str(path)!r} is a symbolic link; whoever controls it controls the cache. "
            "Give the directory's real path"
        )
    if not is_kind(found.st_mode):
        raise DiskError(f"{str(path)!r} is expected to be a {kind}. Choose another directory")
    if hasattr(os, "geteuid") and found.st_uid != os.geteuid():
        raise DiskError(
            f"{str(path)!r} belongs to user {found.st_uid}, this process runs as "
            f"{os.geteuid()}. Choose a directory of your own, or change the owner"
        )


def _parse_meta(file: Path, page: bytes) -> tuple[tuple[int, int], int]:
    """Return ((transaction, last page), page size) of one meta page."""
    if len(page) < _META_OFFSET + _META.size:
        raise DiskError(
            f"{str(file)!r} was cut off within its first pages. It is a cache: remove the "
            "directory and let it fill again"
        )
    magic, version, _, _, page_size, last_page, transaction = _META.unpack_from(page, _META_OFFSET)
    if magic != _MAGIC or version != _DATA_VERSION or page_size not in _PAGE_SIZES:
        raise DiskError(
            f"{str(file)!r} is not an LMDB 0.9 file, or its first pages are damaged. Choose "
            "another directory, or remove this one if it was a cache"
        )
    return (transaction, last_page), page_size


def _only_free_pages_missing(directory: Path) -> bool:
    """Whether a file shorter than its page count lacks nothing that is in use.

    LMDB never writes pages at the end that a transaction took and gave back. The verifier
    tells them from lost ones; another process that commits meanwhile may mislead it, so it
    gets three tries.
    """
    from lmdb.verify import VerifyError, verify

    for _ in range(3):
        try:
            if not verify(str(directory), subdir=True):  # type: ignore[no-untyped-call]
                return True
        except VerifyError:
            continue
    return False
