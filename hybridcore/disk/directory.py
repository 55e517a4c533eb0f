"""What is checked before LMDB sees a directory: whose it is, where, and if its file is whole."""

from __future__ import annotations

import os
import re
import stat
import struct
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from hybridcore.errors import DiskError

if TYPE_CHECKING:
    from collections.abc import Callable

DATA_FILE = "data.mdb"
LOCK_FILE = "lock.mdb"
STATE_FILE = "state"
MARKS_FILE = "marks"
NEW_FILE = "data.mdb.new"
"""The data file that takes the place of the other when it is complete."""

_FILES = (DATA_FILE, LOCK_FILE, STATE_FILE, MARKS_FILE, NEW_FILE)

_MOUNTS = Path("/proc/self/mountinfo")
_REMOTE = {"9p", "afs", "beegfs", "ceph", "cifs", "coda", "fuse", "glusterfs", "gpfs", "lustre"}
_REMOTE |= {"ncpfs", "nfs", "nfs4", "orangefs", "pvfs2", "smb2", "smb3", "smbfs"}
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
        DiskError: it is a symlink, belongs to somebody else, is on a file system that will not
            do, or cannot be made.
    """
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            directory.mkdir(mode=0o700)
        found = directory.lstat()
    except OSError as error:
        raise DiskError(f"cannot make the cache directory {str(directory)!r}: {error}") from error
    _check_own(directory, found, stat.S_ISDIR, "directory")
    for name in _FILES:
        file = directory / name
        try:
            _check_own(file, file.lstat(), stat.S_ISREG, "regular file")
        except FileNotFoundError:
            continue
    _check_file_system(directory, found.st_dev)
    return found.st_dev, found.st_ino


def data_file(directory: Path) -> tuple[int, int] | None:
    """The identity of the data file, (device, inode), if there is one."""
    try:
        found = (directory / DATA_FILE).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def check_names(directory: Path) -> None:
    """Check that whoever uses the data file uses its lock file too.

    Raises:
        DiskError: the data file has a name elsewhere, beside which there is another lock file.
    """
    links = []
    for name in (DATA_FILE, LOCK_FILE, STATE_FILE):
        try:
            links.append((directory / name).stat().st_nlink)
        except OSError:
            links.append(1)
    if links[0] > 1 and links != [links[0]] * 3:
        raise DiskError(
            f"{str(directory / DATA_FILE)!r} has another name (a hard link) beside which there is "
            "another lock file: processes that use both would overwrite each other. Copy it "
            "with Lmdb.backup() instead"
        )


def discard(directory: Path) -> None:
    """Remove the entries and what was known of them; only for who is sure to be alone.

    Raises:
        DiskError: it cannot be done, or the data file has another name.
    """
    remove_data(directory)
    try:
        for file in (directory / NEW_FILE, *directory.glob(f"{MARKS_FILE}*")):
            file.unlink(missing_ok=True)
    except OSError as error:
        raise DiskError(f"cannot remove {str(file)!r}: {error}") from error


def set_aside(directory: Path) -> None:
    """Give the data file another name; only for who is sure to be alone.

    Raises:
        DiskError: it cannot be done.
    """
    number = 1
    while (aside := directory / f"{DATA_FILE}.suspect-{number}").exists():
        number += 1
    try:
        (directory / DATA_FILE).rename(aside)
        (directory / LOCK_FILE).unlink(missing_ok=True)
    except OSError as error:
        raise DiskError(f"cannot set {str(directory / DATA_FILE)!r} aside: {error}") from error


def remove_data(directory: Path) -> None:
    """Remove the data file and its lock file; only for who is sure to be alone.

    Raises:
        DiskError: it cannot be done, or the data file has another name.
    """
    try:
        file = directory / DATA_FILE
        if file.exists() and file.stat().st_nlink > 1:
            raise DiskError(
                f"the entries of {str(directory)!r} have to go, but {DATA_FILE} has another name "
                "(a hard link). Remove one of them"
            )
        for name in (DATA_FILE, LOCK_FILE):
            (directory / name).unlink(missing_ok=True)
    except OSError as error:
        if isinstance(error, DiskError):
            raise
        raise DiskError(f"cannot remove the entries of {str(directory)!r}: {error}") from error


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


def file_system(path: str, device: int, mounts: str) -> str:
    """The type of the file system that a path is on, by the lines of a mountinfo; or ""."""
    number = f"{os.major(device)}:{os.minor(device)}"
    best, longest = "", -1
    for mount in mounts.splitlines():
        before, found, after = mount.partition(" - ")
        fields = before.split(" ")
        if not found or len(fields) < 5:
            continue
        if fields[2] == number:
            return after.split(" ")[0]
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4])
        if len(point) >= longest and (path + "/").startswith(point.rstrip("/") + "/"):
            best, longest = after.split(" ")[0], len(point)
    return best


def _check_file_system(directory: Path, device: int) -> None:
    try:
        mounts = _MOUNTS.read_text("utf-8", "surrogateescape")
    except OSError:
        return  # another system than Linux
    kind = file_system(os.path.realpath(directory), device, mounts)
    if kind in _REMOTE or kind.startswith("fuse."):
        raise DiskError(
            f"{str(directory)!r} is on {kind}. LMDB needs memory maps and locks that only a local "
            "file system keeps coherent. Choose a directory on a local disk"
        )


def _parse_meta(file: Path, page: bytes) -> tuple[tuple[int, int], int]:
    """Return ((transaction, last page), page size) of one meta page."""
    if len(page) < _META_OFFSET + _META.size:
        raise DiskError(
            f"{str(file)!r} was cut off within its first pages. If it is a cache, remove the "
            "directory and let it fill again, and if it is a queue, restore its backup"
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
