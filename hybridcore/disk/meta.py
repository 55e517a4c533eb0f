"""What a record carries beside its value: the origin's validators and tags, as MessagePack."""

from __future__ import annotations

import struct

from hybridcore.types import Tag, Validators, as_tags

_SIZES = struct.Struct("<56xII")
"""Of the key and of the meta part, at the end of a record's header."""


def encode_meta(validators: Validators | None, tag: Tag) -> bytes:
    """Return the meta part of a record; empty when there is nothing to say."""
    if validators is None and tag is None:
        return b""
    import msgspec

    known: dict[str, Tag] = {"tag": tag}
    if validators is not None:
        known |= {"etag": validators.etag, "last_modified": validators.last_modified}
        known["must_revalidate"] = "1" if validators.must_revalidate else None
    said = {name: text for name, text in known.items() if text is not None}
    return msgspec.msgpack.encode(said) if said else b""


def decode_meta(meta: bytes) -> tuple[Validators | None, Tag]:
    """Return the validators and the tags in a record's meta part; unknown names are skipped."""
    import msgspec

    try:
        said = msgspec.msgpack.decode(meta, type=dict[str, str | tuple[str, ...]])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None, None
    etag, last_modified = _text(said.get("etag")), _text(said.get("last_modified"))
    tag = said.get("tag")
    if etag is None and last_modified is None:
        return None, tag
    checked = said.get("must_revalidate") == "1"
    return Validators(etag=etag, last_modified=last_modified, must_revalidate=checked), tag


def tags_of(record: memoryview | bytes) -> tuple[str, ...]:
    """The tags of a record as it lies on disk, unchecked."""
    if len(record) < _SIZES.size:
        return ()
    key_size, meta_size = _SIZES.unpack_from(record)
    if not meta_size:
        return ()
    start = _SIZES.size + key_size
    return as_tags(decode_meta(bytes(record[start : start + meta_size]))[1])


def _text(said: Tag) -> str | None:
    return said if isinstance(said, str) else None
