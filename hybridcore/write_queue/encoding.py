"""Keys and values of a durable queue as bytes, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hybridcore._native.writes import Write, WritePacker
from hybridcore.codec import Codecs, Compression, Decompressor
from hybridcore.disk.keys import decode_key
from hybridcore.errors import DecodeError
from hybridcore.write_queue.base import Operation

if TYPE_CHECKING:
    from hybridcore.stats import CompressionStats


class Encoding:
    """Makes writes of keys and values, and reads them again.

    Args:
        codecs, compression: see `Lmdb`.
    """

    def __init__(self, codecs: Codecs | None, compression: Compression | None) -> None:
        self._codecs = codecs or Codecs()
        self._compression = compression
        self._decompress = (compression or Decompressor()).decompress
        self.pack = WritePacker(
            self._codecs.encode, None if compression is None else compression.compress
        ).pack

    def value(self, codec: int, flags: int, payload: bytes) -> Any:
        """The value of a payload.

        Raises:
            DecodeError: it cannot be read.
        """
        raw = self._decompress(flags, payload) if flags else payload
        return self._codecs.decode(codec, raw)

    def value_of(self, write: Write) -> Any:
        """The value of a write, None of a delete; raises as `value`."""
        if write.deletes:
            return None
        return self.value(write.codec, write.flags, write.payload)

    def key(self, form: bytes) -> Any:
        """The key of a form.

        Raises:
            DecodeError: it is of none.
        """
        try:
            return decode_key(form)
        except (ValueError, IndexError) as error:
            raise DecodeError(f"no key has the form {form[:32]!r}") from error

    def operation(self, key: Any, write: Write) -> Operation:
        """A write as the engine knows it."""
        return Operation(key, self.value_of(write), write.deletes)

    def stats(self) -> CompressionStats | None:
        """What compression saved, if there is any."""
        return None if self._compression is None else self._compression.stats()
