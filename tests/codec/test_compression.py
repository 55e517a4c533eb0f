"""Compressed payloads come back as they were, and hostile ones cost nothing."""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
import pickle
import random
import subprocess
import sys
import threading
import tracemalloc

import lz4.block
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from hybridcore import Codecs, Compression, ConfigurationError, DecodeError
from hybridcore.codec import ARRAY, MSGPACK, RAW, TEXT, Decompressor
from hybridcore.codec import compression as module
from hybridcore.stats import CompressorStats

NONE, ZSTD, LZ4 = 0, 1, 2
ALWAYS = {"threshold": 0, "min_saving": 0.0}
CODECS = ("auto", "zstd", "lz4")


def words(size: int, seed: int = 1) -> bytes:
    """Text that compresses about as well as JSON does."""
    draw = random.Random(seed)
    rows: list[object] = []
    while len(text := json.dumps(rows).encode()) < size:
        rows += [
            {"id": draw.randrange(10**9), "name": draw.choice(["ada", "grace", "edsger"])}
            for _ in range(1 + size // 50)
        ]
    return text[:size]


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def stored(compression: Compression, raw: bytes, code: int = RAW) -> tuple[int, bytes]:
    flags, buffers = compression.compress(code, (raw,))
    return flags, b"".join(buffers)


@pytest.fixture(scope="module")
def samples() -> list[bytes]:
    return [
        json.dumps({"login": f"user{n}", "id": n * 7919, "site_admin": n % 2 == 0}).encode() * 2
        for n in range(2000)
    ]


@pytest.fixture(scope="module")
def dictionary(samples: list[bytes]) -> bytes:
    return Compression.train(samples, size="4KiB")


class TestRoundTrip:
    @given(
        st.sampled_from(CODECS),
        st.binary(max_size=300),
        st.integers(1, 60),
        st.integers(1, 4),
        st.sampled_from([RAW, TEXT, MSGPACK, 4, 64]),
    )
    def test_what_goes_in_comes_out(self, codec, piece, repeat, cuts, code) -> None:
        """Whatever the buffers, their bytes come back, and never more is stored than came."""
        raw = piece * repeat
        step = max(1, len(raw) // cuts)
        payload = tuple(memoryview(raw)[at : at + step] for at in range(0, len(raw), step))
        compression = Compression(codec, **ALWAYS)
        flags, buffers = compression.compress(code, payload)
        assert sum(map(len, buffers)) <= len(raw)
        assert compression.decompress(flags, b"".join(buffers)) == raw
        assert compression.decompress(flags, memoryview(b"".join(buffers))) == raw

    @pytest.mark.parametrize("codec", CODECS)
    @pytest.mark.parametrize("size", [1024, 4096, 4097, 65536, 262143, 262144, 1_500_000])
    def test_sizes(self, codec: str, size: int) -> None:
        """Compressible payloads of every size are kept and come back."""
        compression = Compression(codec)
        flags, data = stored(compression, words(size), MSGPACK)
        expected = {"zstd": ZSTD, "lz4": LZ4, "auto": LZ4 if size <= 4096 else ZSTD}[codec]
        assert flags == expected
        assert len(data) < size * 0.9
        assert data[:8] == size.to_bytes(8, "little")
        assert compression.decompress(flags, data) == words(size)

    @pytest.mark.parametrize("codec", CODECS)
    def test_any_compression_reads_what_any_wrote(self, codec: str) -> None:
        """The flags say how a payload is read, not the options of the reader."""
        for writer in ("zstd", "lz4"):
            flags, data = stored(Compression(writer), words(5000))
            assert Compression(codec).decompress(flags, data) == words(5000)
            assert Decompressor().decompress(flags, data) == words(5000)

    def test_other_programs_read_it(self) -> None:
        """After the raw size comes a plain Zstandard frame or LZ4 block."""
        _, data = stored(Compression("zstd"), words(5000))
        assert zstandard.decompress(data[8:]) == words(5000)
        _, data = stored(Compression("lz4"), words(5000))
        assert lz4.block.decompress(data[8:], uncompressed_size=5000) == words(5000)

    def test_values(self) -> None:
        """What the codecs make of values passes through."""
        codecs, compression = Codecs(pickle_key=b"sixteen or more!"), Compression()
        for value in ({"a": [1, 2.5, "x"] * 500}, "text" * 1000, b"raw" * 1000, range(9), None):
            code, payload = codecs.encode(value)
            flags, buffers = compression.compress(code, payload)
            raw = compression.decompress(flags, b"".join(buffers))
            assert codecs.decode(code, raw) == value


class TestSkipped:
    def test_small(self) -> None:
        """A payload under the threshold is left alone, one at it is not."""
        compression = Compression(threshold=2000)
        payload = (words(1999),)
        assert compression.compress(RAW, payload) == (NONE, payload)
        assert compression.compress(RAW, (words(2000),))[0] == LZ4
        assert compression.stats().too_small == 1

    def test_nothing_at_all(self) -> None:
        """An empty payload stays empty."""
        compression = Compression(threshold=0, min_saving=0)
        assert compression.compress(RAW, (b"",)) == (NONE, (b"",))
        assert compression.compress(RAW, ()) == (NONE, ())

    def test_large(self) -> None:
        """A payload above max_size could not be read back, so it is not compressed."""
        compression = Compression(max_size=3000)
        assert compression.compress(RAW, (words(3001),))[0] == NONE
        assert compression.compress(RAW, (words(3000),))[0] == LZ4
        assert compression.stats().too_large == 1

    def test_arrays(self) -> None:
        """Arrays are for reading in place."""
        compression = Compression()
        payload = (b"\0" * 16, memoryview(b"\0" * 10_000))
        assert compression.compress(ARRAY, payload) == (NONE, payload)
        assert compression.stats().arrays == 1

    @pytest.mark.parametrize(
        "start",
        [
            b"\x1f\x8b\x08\0",
            zstandard.compress(b"x"),
            b"\x04\x22\x4d\x18",
            b"\x89PNG\r\n\x1a\n",
            b"\xff\xd8\xff\xe0",
            b"RIFF\0\0\0\0WEBPVP8 ",
            b"PK\x03\x04",
            b"BZh9",
            b"\xfd7zXZ\0",
            b"\0\0\0\x20ftypisom",
            b"x\x9c",
        ],
    )
    @pytest.mark.parametrize("code", [RAW, 64])
    def test_compressed_already(self, start: bytes, code: int) -> None:
        """What starts like a compressed format is left alone, also by codecs of applications."""
        compression = Compression()
        assert compression.compress(code, (start + b"\0" * 5000,))[0] == NONE
        assert compression.stats().compressed_already == 1

    def test_other_riff(self) -> None:
        """A WAVE file is a RIFF file too, and worth compressing."""
        assert Compression().compress(RAW, (b"RIFF\0\0\0\0WAVE" + words(5000),))[0] == ZSTD

    @pytest.mark.parametrize("code", [TEXT, MSGPACK])
    def test_text_that_looks_like_it(self, code: int) -> None:
        """Text and trees are compressed whatever they start with."""
        assert Compression().compress(code, (b"BZh" + words(5000),))[0] == ZSTD

    @pytest.mark.parametrize("size", [2000, 100_000])
    def test_not_worth_it(self, size: int) -> None:
        """What saves too little is stored as it is."""
        compression = Compression()
        payload = (noise(size),)
        assert compression.compress(RAW, payload) == (NONE, payload)
        stats = compression.stats()
        assert stats.zstd.not_worth_it + stats.lz4.not_worth_it == 1

    def test_saving_asked_for(self) -> None:
        """min_saving is the part of the payload that must be saved, the prefix counted."""
        raw = words(3000)
        size = 8 + len(lz4.block.compress(raw, store_size=False))
        saving = 1 - size / 3000
        assert Compression("lz4", min_saving=saving - 0.001).compress(RAW, (raw,))[0] == LZ4
        assert Compression("lz4", min_saving=saving + 0.001).compress(RAW, (raw,))[0] == NONE

    @pytest.mark.parametrize("codec", ["zstd", "lz4"])
    def test_sample(self, codec: str) -> None:
        """Of a large payload that saves nothing only a sample is compressed."""
        compression = Compression(codec)
        payload = (noise(2_000_000),)
        tracemalloc.start()
        try:
            assert compression.compress(RAW, payload) == (NONE, payload)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 200_000
        assert getattr(compression.stats(), codec).unpromising == 1

    def test_sample_is_from_all_over(self) -> None:
        """A payload with an incompressible head is compressed for the sake of the rest."""
        raw = noise(100_000) + words(900_000)
        assert Compression().compress(RAW, (raw,))[0] == ZSTD


class TestStats:
    def test_counts(self) -> None:
        """Each payload counts once, with its bytes if it was kept."""
        compression = Compression()
        _, small = stored(compression, words(2000))
        _, large = stored(compression, words(50_000))
        stored(compression, noise(2000))
        stored(compression, b"tiny")
        stats = compression.stats()
        assert stats.lz4 == CompressorStats(1, 1, 0, 2000, len(small))
        assert stats.zstd == CompressorStats(1, 0, 0, 50_000, len(large))
        assert (stats.lz4.tried, stats.skipped) == (2, 1)
        assert stats.zstd.ratio == 50_000 / len(large)
        with pytest.raises(dataclasses.FrozenInstanceError):
            stats.too_small = 0

    def test_before_the_first(self) -> None:
        """Nothing was tried, and the ratio is 1."""
        stats = Compression().stats()
        assert (stats.zstd.tried, stats.skipped, stats.zstd.ratio) == (0, 0, 1.0)

    def test_two_threads(self) -> None:
        """Threads share one object: all comes back, and every payload is counted."""
        compression = Compression(max_size="10MiB")
        rounds, threads = 150, 4
        together = threading.Barrier(threads)
        failures: list[object] = []

        def work(seed: int) -> None:
            draw = random.Random(seed)
            together.wait()
            for turn in range(rounds):
                raw = words(draw.choice([1500, 9000, 70_000]), seed * 1000 + turn)
                flags, data = stored(compression, raw)
                if not flags or compression.decompress(flags, data) != raw:
                    failures.append((seed, turn))

        workers = [threading.Thread(target=work, args=(seed,)) for seed in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        stats = compression.stats()
        assert not failures
        assert stats.zstd.kept + stats.lz4.kept == rounds * threads


class TestDamage:
    @given(st.sampled_from(["zstd", "lz4"]), st.data())
    def test_flipped_and_cut(self, codec: str, data: st.DataObject) -> None:
        """Fault 8: damaged bytes give a DecodeError or as many bytes as they promise."""
        flags, whole = stored(Compression(codec), words(3000))
        damaged = bytearray(whole)
        for _ in range(data.draw(st.integers(1, 4))):
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
        cut = bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
        try:
            raw = Decompressor(max_size=100_000).decompress(flags, cut)
        except DecodeError:
            return
        assert len(raw) == int.from_bytes(cut[:8], "little")

    @given(st.integers(0, 15), st.binary(max_size=100))
    def test_anything(self, flags: int, view: bytes) -> None:
        """Any bytes under any flags are a value or a DecodeError."""
        try:
            Decompressor(max_size="1MiB").decompress(flags, view)
        except DecodeError:
            return

    @pytest.mark.parametrize("flags", [ZSTD, LZ4])
    @pytest.mark.parametrize("change", [-1, 1])
    def test_wrong_size(self, flags: int, change: int) -> None:
        """A payload of another size than was stored is refused."""
        _, data = stored(Compression({ZSTD: "zstd", LZ4: "lz4"}[flags]), words(3000))
        wrong = (3000 + change).to_bytes(8, "little") + data[8:]
        with pytest.raises(DecodeError):
            Decompressor().decompress(flags, wrong)

    @pytest.mark.parametrize("flags", [3, 4, 15, -1])
    def test_unknown(self, flags: int) -> None:
        """Fault 9: a compression of the future is refused."""
        with pytest.raises(DecodeError, match="unknown"):
            Decompressor().decompress(flags, b"\x05" + bytes(20))

    def test_something_after_the_frame(self) -> None:
        """A frame with more behind it was not written here."""
        flags, data = stored(Compression("zstd"), words(3000))
        with pytest.raises(DecodeError):
            Decompressor().decompress(flags, data + b"\0\0\0\0")

    def test_no_size_in_the_frame(self) -> None:
        """A frame that does not say its size is refused: its bound would be unknown."""
        frame = zstandard.ZstdCompressor(write_content_size=False).compress(words(3000))
        with pytest.raises(DecodeError, match="expected"):
            Decompressor().decompress(ZSTD, (3000).to_bytes(8, "little") + frame)


class TestBombs:
    BOMB = zstandard.compress(bytes(64 * 1024 * 1024))

    @pytest.mark.parametrize(
        ("flags", "size", "body"),
        [
            (ZSTD, 64 * 1024 * 1024, BOMB),  # honest, but larger than allowed
            (ZSTD, 1000, BOMB),  # the frame says otherwise
            (ZSTD, 2**63, BOMB),
            (ZSTD, 10_000_000, zstandard.compress(b"x")),  # no frame this short holds so much
            (LZ4, 10_000_000, b"\x10a" * 30),
            (LZ4, 10_000_000, lz4.block.compress(bytes(64 * 1024 * 1024), store_size=False)),
        ],
    )
    def test_memory(self, flags: int, size: int, body: bytes) -> None:
        """Fault 9: a decompression bomb is a DecodeError before any memory is taken for it."""
        decompressor = Decompressor(max_size="10MiB" if flags == ZSTD else "8MiB")
        bomb = size.to_bytes(8, "little") + body
        tracemalloc.start()
        try:
            with pytest.raises(DecodeError):
                decompressor.decompress(flags, bomb)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 500_000

    @pytest.mark.parametrize("codec", ["zstd", "lz4"])
    def test_the_most_that_is_possible(self, codec: str) -> None:
        """What compresses best is not taken for a bomb."""
        compression = Compression(codec)
        for size in (5000, 1_000_000, 40_000_000):
            flags, data = stored(compression, bytes(size))
            assert flags != NONE
            assert compression.decompress(flags, data) == bytes(size)


class TestDictionary:
    def test_it_helps(self, samples: list[bytes], dictionary: bytes) -> None:
        """Small payloads like the samples become smaller than without it."""
        trained = Compression(threshold=64, dictionary=dictionary)
        plain = Compression("zstd", threshold=64)
        flags, data = stored(trained, samples[3])
        assert flags == ZSTD
        assert len(data) < len(stored(plain, samples[3])[1])
        assert trained.decompress(flags, data) == samples[3]
        again = Decompressor(dictionary=dictionary)
        assert again.decompress(flags, data) == samples[3]

    def test_another(self, samples: list[bytes], dictionary: bytes) -> None:
        """With another dictionary, or none, the payload is a DecodeError that says so."""
        flags, data = stored(Compression(threshold=64, dictionary=dictionary), samples[3])
        other = Compression.train([words(300, n) for n in range(2000)], size=4096)
        for reader in (Decompressor(), Decompressor(dictionary=other)):
            with pytest.raises(DecodeError, match="dictionary"):
                reader.decompress(flags, data)

    def test_older_records(self, dictionary: bytes) -> None:
        """What was written without a dictionary can still be read with one."""
        flags, data = stored(Compression("zstd"), words(5000))
        assert Decompressor(dictionary=dictionary).decompress(flags, data) == words(5000)

    def test_same_samples_same_dictionary(self, samples: list[bytes], dictionary: bytes) -> None:
        """Processes that learn from the same samples understand each other."""
        assert Compression.train(samples, size="4KiB") == dictionary

    def test_too_few_samples(self) -> None:
        """Too little to learn from is told."""
        with pytest.raises(ConfigurationError, match="Give more samples"):
            Compression.train([b"a", b"b"])

    @pytest.mark.parametrize("damage", [slice(4, 8), slice(8, 60)])
    def test_damaged(self, dictionary: bytes, damage: slice) -> None:
        """A dictionary that is damaged, or has no number, is refused at once."""
        damaged = bytearray(dictionary)
        damaged[damage] = bytes(len(damaged[damage]))
        with pytest.raises(ConfigurationError, match="damaged"):
            Compression(dictionary=bytes(damaged))


class TestOptions:
    @pytest.mark.parametrize(
        "options",
        [
            {"codec": "gzip"},
            {"codec": None},
            {"threshold": -1},
            {"threshold": "much"},
            {"min_saving": 1},
            {"min_saving": -0.1},
            {"min_saving": float("nan")},
            {"min_saving": "10%"},
            {"level": 0},
            {"level": 23},
            {"level": True},
            {"level": 1.0},
            {"dictionary": b"short"},
            {"dictionary": "text"},
            {"max_size": 1.5},
        ],
    )
    def test_refused(self, options: dict[str, object]) -> None:
        """An option that makes no sense is refused by its name."""
        with pytest.raises(ConfigurationError, match=r"codec|size|min_saving|level|dictionary"):
            Compression(**options)

    def test_dictionary_of_lz4(self, dictionary: bytes) -> None:
        """Dictionaries are of Zstandard."""
        with pytest.raises(ConfigurationError, match="zstd"):
            Compression("lz4", dictionary=dictionary)

    def test_immutable(self) -> None:
        """Options cannot be changed."""
        with pytest.raises(dataclasses.FrozenInstanceError):
            Compression().level = 3

    def test_value(self, dictionary: bytes) -> None:
        """Equal options are equal objects, sizes in words or not; copies and pickles too."""
        compression = Compression("zstd", threshold="2KiB", dictionary=dictionary)
        assert compression == Compression("zstd", threshold=2048, dictionary=dictionary)
        assert compression != Compression("zstd")
        assert hash(compression) == hash(copy.copy(compression))
        again = pickle.loads(pickle.dumps(compression))
        assert again == compression
        flags, data = stored(compression, words(3000))
        assert again.decompress(flags, data) == words(3000)
        assert dataclasses.replace(compression, level=5).level == 5
        assert repr(dictionary) not in repr(compression)

    def test_higher_level(self) -> None:
        """A higher level stores less."""
        low, high = (stored(Compression("zstd", level=level), words(50_000)) for level in (1, 19))
        assert len(high[1]) < len(low[1])


class TestLibraries:
    @pytest.mark.parametrize(
        ("codec", "missing", "extra"),
        [
            ("zstd", "zstandard", "zstd"),
            ("lz4", "lz4.block", "lz4"),
            ("auto", "zstandard", "compression"),
            ("auto", "lz4.block", "compression"),
        ],
    )
    def test_writer(self, codec: str, missing: str, extra: str, monkeypatch) -> None:
        """Without its library a Compression is not made; the error names the extra."""
        monkeypatch.setitem(sys.modules, missing, None)
        with pytest.raises(ImportError, match=rf"pip install hybridcore\[{extra}\]"):
            Compression(codec)

    @pytest.mark.parametrize(("codec", "missing"), [("zstd", "zstandard"), ("lz4", "lz4.block")])
    def test_reader(self, codec: str, missing: str, monkeypatch, caplog) -> None:
        """Without the library a compressed value is a DecodeError, and the log says so once."""
        flags, data = stored(Compression(codec), words(5000))
        monkeypatch.setitem(sys.modules, missing, None)
        monkeypatch.setattr(module, "_told", set())
        decompressor = Decompressor()
        with caplog.at_level(logging.WARNING, logger="hybridcore"):
            for _ in range(3):
                with pytest.raises(DecodeError, match=rf"hybridcore\[{codec}\]"):
                    decompressor.decompress(flags, data)
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert f"hybridcore[{codec}]" in caplog.text

    def test_one_is_enough_for_itself(self, monkeypatch) -> None:
        """Neither codec asks for the library of the other."""
        monkeypatch.setitem(sys.modules, "lz4.block", None)
        assert stored(Compression("zstd"), words(2000))[0] == ZSTD
        monkeypatch.undo()
        monkeypatch.setitem(sys.modules, "zstandard", None)
        assert stored(Compression("lz4"), words(2000))[0] == LZ4

    def test_at_use(self) -> None:
        """Importing the package and its codecs loads neither library."""
        code = (
            "import sys, hybridcore\n"
            "from hybridcore import Codecs, Compression\n"
            "from hybridcore.codec import Decompressor\nDecompressor()\n"
            "print({'zstandard', 'lz4'} & set(sys.modules))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert (done.stdout, done.stderr) == ("set()\n", "")
