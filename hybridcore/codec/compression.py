"""`Compression` makes payloads smaller where that pays; `Decompressor` reads them back in bounds.

What is stored of a compressed payload is its raw size, 8 bytes little-endian, and then one
Zstandard frame or one LZ4 block; the flags of the record say which.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property, partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from hybridcore.codec.codecs import ARRAY, FIRST_CUSTOM, RAW
from hybridcore.errors import ConfigurationError, DecodeError
from hybridcore.stats import CompressionStats, CompressorStats
from hybridcore.units import Size, size_in_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from hybridcore.codec.codecs import Payload

log = logging.getLogger("hybridcore")

CompressionCodec = Literal["auto", "zstd", "lz4"]

NONE: Final = 0
ZSTD: Final = 1
LZ4: Final = 2

_NAMES = {ZSTD: "zstd", LZ4: "lz4"}
_LIBRARIES = {ZSTD: "zstandard", LZ4: "lz4.block"}
_LARGEST_EXPANSION = {ZSTD: 32768, LZ4: 255}
"""No frame or block of n bytes holds more than n times this: the formats cannot say it shorter."""

_PREFIX = 8  # bytes
_LZ4_UP_TO = 4096
"""Bytes; up to here "auto" takes LZ4: a third of Zstandard's time, three quarters of its saving."""
_SAMPLED_FROM = 256 * 1024
"""Bytes; from here a sample is tried first, which then costs less than a tenth of the whole."""
_PIECES, _PIECE = 4, 4096
"""A sample: so many pieces from all over the payload, of so many bytes."""
_LARGEST_LZ4 = 0x7E000000
_SPARE_CONTEXTS = 8
_HIGHEST_LEVEL = 22
_DICTIONARY_MAGIC = b"\x37\xa4\x30\xec"

_REASONS = ("too_small", "too_large", "arrays", "compressed_already")
_COUNTERS: tuple[str | tuple[int, str], ...] = (
    *_REASONS,
    *((flags, counter) for flags in _NAMES for counter in CompressorStats.__slots__),
)

_COMPRESSED_ALREADY = (
    b"\x1f\x8b",  # gzip
    b"x\x01",  # zlib
    b"x\x9c",
    b"x\xda",
    b"\x28\xb5\x2f\xfd",  # zstd
    b"\x04\x22\x4d\x18",  # LZ4 frame
    b"BZh",  # bzip2
    b"\xfd7zXZ\0",
    b"7z\xbc\xaf\x27\x1c",
    b"PK\x03\x04",  # zip, docx, jar
    b"Rar!\x1a\x07",
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff",  # JPEG
    b"GIF8",
    b"wOF2",
    b"OggS",
    b"fLaC",
    b"ID3",  # MP3
    b"\x1a\x45\xdf\xa3",  # Matroska, WebM
)


@dataclass(frozen=True)
class Compression:
    """How the disk tier compresses: ``Lmdb(directory, compression=Compression("zstd"))``.

    A payload is compressed if it is large enough, is no array and does not look compressed
    already, and is stored compressed if that saves enough. Threads may share the object; its
    counters are about all that use it.

    - ``codec``: "zstd", "lz4", or "auto": LZ4 up to 4 KiB, Zstandard above
    - ``threshold``: smaller payloads are left as they are
    - ``min_saving``: the part of the size that must be saved, 0.1 for a tenth
    - ``level``: of Zstandard, 1 to 22
    - ``dictionary``: of Zstandard, as `train` makes them; "auto" then takes Zstandard always
    - ``max_size``: larger payloads are neither compressed nor expanded

    >>> compression = Compression("zstd")
    >>> flags, stored = compression.compress(0, (b"again and again " * 1000,))
    >>> flags, sum(map(len, stored)) < 100
    (1, True)
    >>> compression.decompress(flags, b"".join(stored)) == b"again and again " * 1000
    True

    Raises:
        ImportError: a library that ``codec`` needs is not installed; names the extra.
        ConfigurationError: an option makes no sense.
    """

    codec: CompressionCodec = "auto"
    _: KW_ONLY
    threshold: Size = "1KiB"
    min_saving: float = 0.1
    level: int = 1
    dictionary: bytes | None = field(default=None, repr=False)
    max_size: Size = "1GiB"
    _compressor: _Compressor = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.codec not in get_args(CompressionCodec):
            raise ConfigurationError(
                f"codec is expected to be one of {', '.join(get_args(CompressionCodec))}, "
                f"got {self.codec!r}"
            )
        if type(self.min_saving) not in (int, float) or not 0 <= self.min_saving < 1:
            raise ConfigurationError(
                "min_saving is expected to be a part of the whole from 0 to less than 1, "
                f"got {self.min_saving!r}"
            )
        if type(self.level) is not int or not 1 <= self.level <= _HIGHEST_LEVEL:
            raise ConfigurationError(
                f"level is expected to be an int from 1 to {_HIGHEST_LEVEL}, got {self.level!r}"
            )
        _check_dictionary(self.dictionary)
        if self.dictionary is not None and self.codec == "lz4":
            raise ConfigurationError(
                'a dictionary is of Zstandard: give codec="zstd" with it, or leave it out'
            )
        for name in ("threshold", "max_size"):
            object.__setattr__(self, name, size_in_bytes(getattr(self, name)))
        object.__setattr__(self, "_compressor", _Compressor(self))

    def compress(self, code: int, payload: Payload) -> tuple[int, Payload]:
        """Return the flags and what to store, for a payload of the codec number ``code``."""
        return self._compressor.compress(code, payload)

    def decompress(self, flags: int, view: bytes | memoryview) -> bytes:
        """Return the raw payload; see `Decompressor.decompress`."""
        return self._compressor.decompressor.decompress(flags, view)

    def stats(self) -> CompressionStats:
        """Return a snapshot of what was tried, kept and skipped."""
        return self._compressor.stats()

    @staticmethod
    def train(samples: Iterable[bytes | memoryview], size: Size = "64KiB") -> bytes:
        """Return a dictionary of at most ``size`` bytes, learned from payloads like those to come.

        It takes some hundred samples or more, about 100 times the size of the dictionary
        altogether. Keep it: what was compressed with it cannot be read without it.

        Raises:
            ImportError: zstandard is not installed.
            ConfigurationError: the samples are too few or too small to learn from.
        """
        zstandard = _library(ZSTD)
        collected = [bytes(sample) for sample in samples]
        try:
            trained = zstandard.train_dictionary(size_in_bytes(size), collected)
        except (zstandard.ZstdError, ValueError) as error:
            raise ConfigurationError(
                f"no dictionary of {size!r} can be learned from {len(collected)} samples of "
                f"{sum(map(len, collected))} bytes: {error}. Give more samples, or a smaller size"
            ) from error
        return bytes(trained.as_bytes())

    def __reduce__(self) -> tuple[Any, ...]:
        options = ("codec", "threshold", "min_saving", "level", "dictionary", "max_size")
        return _restore, ({name: getattr(self, name) for name in options},)


class Decompressor:
    """Reads compressed payloads, whoever wrote them; libraries are imported when first needed.

    No more than ``max_size`` bytes are ever made of a payload. Without the ``dictionary``
    that a payload was compressed with it cannot be read.

    Raises:
        ConfigurationError: ``max_size`` is no size, or ``dictionary`` none of `Compression.train`.
    """

    def __init__(self, *, max_size: Size = "1GiB", dictionary: bytes | None = None) -> None:
        _check_dictionary(dictionary)
        self._max_size = size_in_bytes(max_size)
        self._dictionary = dictionary
        self._expand: dict[int, Callable[[memoryview, int], bytes]] = {
            ZSTD: lambda body, size: self._zstandard.decompress(body, size),
            LZ4: lambda body, size: self._lz4.decompress(body, uncompressed_size=size),
        }

    def decompress(self, flags: int, view: bytes | memoryview) -> bytes:
        """Return the raw payload of what `Compression.compress` stored with these flags.

        Raises:
            DecodeError: damaged, larger than ``max_size``, compressed with another dictionary,
                by a codec unknown here, or by one whose library is not installed.
        """
        if flags == NONE:
            return bytes(view)
        if flags not in self._expand:
            raise DecodeError(f"compression {flags} is unknown here")
        view = memoryview(view)
        if len(view) <= _PREFIX:
            raise DecodeError(f"{len(view)} bytes are too few for a compressed payload")
        size, body = int.from_bytes(view[:_PREFIX], "little"), view[_PREFIX:]
        most = min(self._max_size, _LARGEST_EXPANSION[flags] * len(body))
        if size > most:
            raise DecodeError(
                f"{len(body)} bytes of {_NAMES[flags]} are said to hold {size}, at most {most} "
                "are allowed"
            )
        try:
            raw = self._expand[flags](body, size)
        except DecodeError:
            raise
        except ImportError as error:
            _tell_once(flags)
            raise DecodeError(str(error)) from error
        except Exception as error:
            raise DecodeError(
                f"cannot expand {len(body)} bytes of {_NAMES[flags]}: "
                f"{type(error).__name__}: {error}"
            ) from error
        if len(raw) != size:
            raise DecodeError(f"a payload of {size} bytes was stored, {len(raw)} came back")
        return raw

    @cached_property
    def _zstandard(self) -> _Zstandard:
        return _Zstandard(1, self._dictionary)

    @cached_property
    def _lz4(self) -> Any:
        return _library(LZ4)


class _Compressor:
    """What a `Compression` does and counts."""

    def __init__(self, options: Compression) -> None:
        self._threshold = size_in_bytes(options.threshold)
        self._max_size = size_in_bytes(options.max_size)
        self._min_saving = options.min_saving
        self.decompressor = Decompressor(max_size=self._max_size, dictionary=options.dictionary)
        self._lz4_up_to = _LZ4_UP_TO
        if options.codec == "lz4":
            self._lz4_up_to = self._max_size = min(self._max_size, _LARGEST_LZ4)
        elif options.codec == "zstd" or options.dictionary is not None:
            self._lz4_up_to = -1
        self._compress: dict[int, Callable[[bytes | memoryview], bytes]] = {}
        if options.codec != "lz4":
            extra = "zstd" if self._lz4_up_to < 0 else "compression"
            self._compress[ZSTD] = _Zstandard(options.level, options.dictionary, extra).compress
        if self._lz4_up_to >= 0:
            extra = "lz4" if options.codec == "lz4" else "compression"
            self._compress[LZ4] = partial(_library(LZ4, extra).compress, store_size=False)
        self._counts: dict[str | tuple[int, str], int] = dict.fromkeys(_COUNTERS, 0)
        self._counting = threading.Lock()

    def compress(self, code: int, payload: Payload) -> tuple[int, Payload]:
        size = len(payload[0]) if len(payload) == 1 else sum(map(len, payload))
        reason = self._reason_to_skip(code, payload, size)
        if reason is not None:
            with self._counting:
                self._counts[reason] += 1
            return NONE, payload
        whole = payload[0] if len(payload) == 1 else b"".join(payload)
        flags = LZ4 if size <= self._lz4_up_to else ZSTD
        outcome, stored = self._tried(flags, whole, size)
        with self._counting:
            self._counts[flags, outcome] += 1
            if stored is not None:
                self._counts[flags, "raw_bytes"] += size
                self._counts[flags, "stored_bytes"] += _PREFIX + len(stored)
        if stored is None:
            return NONE, payload
        return flags, (size.to_bytes(_PREFIX, "little"), stored)

    def stats(self) -> CompressionStats:
        with self._counting:
            counts = self._counts.copy()
        zstd, lz4 = (
            CompressorStats(*(counts[flags, name] for name in CompressorStats.__slots__))
            for flags in (ZSTD, LZ4)
        )
        return CompressionStats(zstd, lz4, *(counts[reason] for reason in _REASONS))

    def _reason_to_skip(self, code: int, payload: Payload, size: int) -> str | None:
        if size < self._threshold or not size:
            return "too_small"
        if size > self._max_size:
            return "too_large"
        if code == ARRAY:
            return "arrays"
        if (code == RAW or code >= FIRST_CUSTOM) and _looks_compressed(payload[0]):
            return "compressed_already"
        return None

    def _tried(self, flags: int, whole: bytes | memoryview, size: int) -> tuple[str, bytes | None]:
        """What became of it, and what to store if that was a success."""
        compress = self._compress[flags]
        if size >= _SAMPLED_FROM:
            sample = _sample(memoryview(whole), size)
            if len(compress(sample)) > len(sample) * (1 - self._min_saving):
                return "unpromising", None
        stored = compress(whole)
        if _PREFIX + len(stored) > size * (1 - self._min_saving):
            return "not_worth_it", None
        return "kept", stored


class _Zstandard:
    """Zstandard at one level, with contexts that threads take in turn."""

    def __init__(self, level: int, dictionary: bytes | None, extra: str = "zstd") -> None:
        self._library = _library(ZSTD, extra)
        self._level = level
        self._dictionary: Any = None
        self._dictionary_id = 0
        if dictionary is not None:
            try:
                self._dictionary = self._library.ZstdCompressionDict(
                    dictionary, dict_type=self._library.DICT_TYPE_FULLDICT
                )
                self._dictionary.precompute_compress(level=level)
            except self._library.ZstdError as error:
                raise ConfigurationError(f"the dictionary is damaged: {error}") from error
            self._dictionary_id = self._dictionary.dict_id()
            if not self._dictionary_id:
                raise ConfigurationError("the dictionary is damaged: it has no number")
        # No context may serve two threads at once. One whose call failed is not used again.
        self._compressors: deque[Any] = deque(maxlen=_SPARE_CONTEXTS)
        self._decompressors: dict[int, deque[Any]] = {
            name: deque(maxlen=_SPARE_CONTEXTS) for name in (0, self._dictionary_id)
        }

    def compress(self, raw: bytes | memoryview) -> bytes:
        try:
            context = self._compressors.pop()
        except IndexError:
            context = self._library.ZstdCompressor(level=self._level, dict_data=self._dictionary)
        compressed: bytes = context.compress(raw)
        self._compressors.append(context)
        return compressed

    def decompress(self, frame: memoryview, size: int) -> bytes:
        said = self._library.get_frame_parameters(frame)
        if said.content_size != size:
            raise DecodeError(f"a frame of {said.content_size} bytes is expected to have {size}")
        contexts = self._decompressors.get(said.dict_id)
        if contexts is None:
            raise DecodeError(
                f"compressed with dictionary {said.dict_id}, the one here is "
                f"{self._dictionary_id or None}"
            )
        try:
            context = contexts.pop()
        except IndexError:
            context = self._library.ZstdDecompressor(
                dict_data=self._dictionary if said.dict_id else None
            )
        raw: bytes = context.decompress(frame, allow_extra_data=False)
        contexts.append(context)
        return raw


def _library(flags: int, extra: str | None = None) -> Any:
    try:
        return import_module(_LIBRARIES[flags])
    except ImportError as error:
        raise ImportError(
            f"{_NAMES[flags]} compression needs {_LIBRARIES[flags].partition('.')[0]}: "
            f"pip install hybridcore[{extra or _NAMES[flags]}]"
        ) from error


_told: set[int] = set()


def _tell_once(flags: int) -> None:
    if flags not in _told:
        _told.add(flags)
        log.warning(
            "there are values compressed by %s here, and they are misses: "
            "pip install hybridcore[%s]",
            _NAMES[flags],
            _NAMES[flags],
        )


def _check_dictionary(dictionary: bytes | None) -> None:
    if dictionary is None:
        return
    if type(dictionary) is not bytes or not dictionary.startswith(_DICTIONARY_MAGIC):
        raise ConfigurationError(
            "dictionary is expected to be what Compression.train() returned, got "
            f"{type(dictionary).__name__}"
        )


def _looks_compressed(buffer: bytes | memoryview) -> bool:
    start = bytes(memoryview(buffer)[:16])
    return (
        start.startswith(_COMPRESSED_ALREADY)
        or start[4:8] == b"ftyp"  # MP4, HEIC, AVIF
        or (start[:4] == b"RIFF" and start[8:12] == b"WEBP")
    )


def _sample(whole: memoryview, size: int) -> bytes:
    step = (size - _PIECE) // (_PIECES - 1)
    return b"".join(whole[at : at + _PIECE] for at in range(0, step * _PIECES, step))


def _restore(options: dict[str, Any]) -> Compression:
    return Compression(**options)
