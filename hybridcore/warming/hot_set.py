"""The hot set: the keys most worth having in memory, saved to a file for the next start."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Any

from hybridcore.errors import KeyEncodingError

if TYPE_CHECKING:
    from collections.abc import Iterable

_FORMAT = "hybridcore hot set 1"


def save_hot_set(path: str | os.PathLike[str], keys: Iterable[Any], *, clock: Any = time) -> int:
    """Write keys, the hottest first, in the place of the file; returns how many.

    Keys that the disk tier could not store are left out. Whoever reads the file meanwhile sees
    the old one or the new one.

    Raises:
        OSError: it cannot be written.
    """
    import msgspec

    from hybridcore.disk.keys import encode_key

    forms = []
    for key in keys:
        with suppress(KeyEncodingError):
            forms.append(encode_key(key))
    content = msgspec.msgpack.encode({"format": _FORMAT, "at": float(clock()), "keys": forms})
    target = Path(path)
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        os.replace(draft, target)
    except BaseException:
        with suppress(OSError):
            draft.unlink()
        raise
    return len(forms)


def read_hot_set(path: str | os.PathLike[str]) -> list[Any]:
    """The keys of a hot set, the hottest first; none if there is no such file.

    Raises:
        ValueError: the file is something else, or damaged.
        OSError: it cannot be read.
    """
    import msgspec

    from hybridcore.disk.keys import decode_key

    try:
        content = msgspec.msgpack.decode(Path(path).read_bytes())
    except FileNotFoundError:
        return []
    except msgspec.DecodeError as error:
        raise ValueError(f"{os.fspath(path)} is no hot set: {error}") from None
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise ValueError(f"{os.fspath(path)} is no hot set of this version")
    return [decode_key(form) for form in content["keys"]]
