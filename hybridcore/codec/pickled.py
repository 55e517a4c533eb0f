"""Pickles that are loaded only after their MAC (HMAC-SHA-256, 32 bytes in front) was checked."""

from __future__ import annotations

import hmac
import pickle
from typing import TYPE_CHECKING, Any

from hybridcore.errors import DecodeError, EncodeError

if TYPE_CHECKING:
    from hybridcore.codec.codecs import Payload

_MAC_SIZE = 32


def encode_pickle(value: Any, key: bytes) -> Payload:
    """Return the MAC and the pickle."""
    try:
        pickled = pickle.dumps(value, protocol=5)
    except Exception as error:
        raise EncodeError(
            f"cannot store a {type(value).__qualname__}, not even as a pickle "
            f"({type(error).__name__}: {error}). Register a codec with Codecs(Codec(...))."
        ) from error
    return hmac.digest(key, pickled, "sha256"), pickled


def decode_pickle(payload: bytes | memoryview, key: bytes) -> Any:
    """Return the value, or raise `DecodeError` if the MAC was not made with this key."""
    mac, pickled = bytes(payload[:_MAC_SIZE]), payload[_MAC_SIZE:]
    if not hmac.compare_digest(mac, hmac.digest(key, pickled, "sha256")):
        raise DecodeError("a pickled value was not written with this pickle_key")
    return pickle.loads(pickled)  # noqa: S301  # its MAC was checked
