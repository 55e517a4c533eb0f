"""What a record carries beside its value: the origin's validators, as a MessagePack map."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hybridcore.types import Validators


def encode_meta(validators: Validators) -> bytes:
    """Return the meta part of a record; empty when there is nothing to say."""
    import msgspec

    known = {"etag": validators.etag, "last_modified": validators.last_modified}
    said = {name: text for name, text in known.items() if text is not None}
    return msgspec.msgpack.encode(said) if said else b""


def decode_meta(meta: bytes) -> Validators | None:
    """Return the validators in a record's meta part; names that are unknown here are skipped."""
    import msgspec

    from hybridcore.types import Validators

    try:
        return msgspec.msgpack.decode(meta, type=Validators)
    except msgspec.DecodeError:
        return None
