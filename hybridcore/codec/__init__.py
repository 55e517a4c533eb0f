"""Values as bytes: what the disk tier stores, and what comes back.

Each record carries one byte, the codec number, that says how its payload is read. The numbers
are part of the stored format and never change their meaning:

    0       RAW      bytes
    1       TEXT     str: UTF-8
    2       MSGPACK  everything else built of plain data: MessagePack, extended by `trees`
    3       ARRAY    a NumPy array or scalar: a header, then the array's own bytes (`arrays`)
    4       PICKLE   opt-in: HMAC-SHA-256 (32 bytes), then a pickle
    5-63             reserved
    64-255           codecs of the application
"""

from hybridcore.codec.codecs import (
    ARRAY,
    MSGPACK,
    PICKLE,
    RAW,
    TEXT,
    Codec,
    Codecs,
    Payload,
)
from hybridcore.codec.compression import Compression, Decompressor

__all__ = [
    "ARRAY",
    "MSGPACK",
    "PICKLE",
    "RAW",
    "TEXT",
    "Codec",
    "Codecs",
    "Compression",
    "Decompressor",
    "Payload",
]
