"""The origin that is an object store: S3, Google Cloud Storage, Azure, local files, memory."""

from __future__ import annotations

import contextlib
import io
import mimetypes
import os
import shutil
import tempfile
import threading
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from hybridcore.errors import ConfigurationError, OriginError
from hybridcore.origins import http_rules
from hybridcore.origins.base import Origin
from hybridcore.origins.http_caching import CachePolicy
from hybridcore.origins.http_rules import Reply
from hybridcore.origins.object_client import Call, ObjectClient, is_missing, path_of
from hybridcore.origins.object_streams import (
    PIECE,
    ObjectReader,
    StoredObject,
    check_whole,
    stored,
)
from hybridcore.origins.threads import run_in_thread
from hybridcore.types import Answer, Loaded, NotFound, NotModified, Validators
from hybridcore.units import Duration, Size, size_in_bytes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping

    from obstore import GetResult, ObjectMeta

    from hybridcore.stats import OriginUsage

PART = 8 << 20
"""Bytes of a part of a multipart upload, of which `PARTS` are under way at a time."""
PARTS = 4
REMEMBERED = 65536
"""Keys whose versions are known to conditional writes."""


class ObjectStoreOrigin(Origin[str, Any]):
    """Objects below a prefix, each the value of the key that is its name.

    ``s3://bucket/prefix``, ``gs://bucket/prefix``, ``az://container/prefix``, ``file:///directory``
    and ``memory://`` name a store. A copy held is renewed by its ETag without being transferred.
    What does not fit in memory is read by ``open``, ``stream`` and ``download``, and written by
    ``upload``, with a few MiB whatever its size.

    Needs obstore: ``pip install hybridcore[objects]``. Threads and event loops share its
    connections. It is not to be used in a process that was forked after its first use.

    Args:
        url: the store and the prefix, without credentials.
        options: what the kind of store takes: ``access_key_id``, ``region``, ``endpoint``... as
            obstore names them; variables of the environment such as ``AWS_ACCESS_KEY_ID`` count,
            too. Never shown.
        client_options: of the HTTP client, such as ``root_certificate`` and ``proxy_url``.
        credentials: obstore's ``credential_provider``: gives credentials that change.
        timeout: for a connection, and for each wait for data.
        total_timeout: for one whole object.
        retries: how often a request is tried again after a failure that may pass.
        max_body: larger objects are no values; they can be streamed.
        max_connections: how many keys ``load_many`` asks for at a time.
        writable: whether ``store``, ``delete`` and ``upload`` are allowed.
        conditional: a ``store`` replaces the version of the object that this origin loaded or
            wrote last, or makes a new one, and raises `ConflictError` if there is another.
        ttl_from_headers: whether an object's ``Cache-Control`` overrides the cache's options.
        decode: takes the bytes and the content type and returns the value. By default JSON is
            parsed, text is str, the rest bytes. Where the store knows no type, the name tells.
        encode: takes a value and returns its bytes and content type.
        name: shown in errors; by default the URL.

    Raises:
        ImportError: obstore is not installed.
        ConfigurationError: an option makes no sense, or the directory does not exist.
    """

    def __init__(
        self,
        url: str,
        *,
        options: Mapping[str, Any] | None = None,
        client_options: Mapping[str, Any] | None = None,
        credentials: Callable[[], Any] | None = None,
        timeout: Duration = "10s",
        total_timeout: Duration = "1h",
        retries: int = 2,
        max_body: Size = "64MiB",
        max_connections: int = 32,
        writable: bool = False,
        conditional: bool = False,
        ttl_from_headers: bool = True,
        decode: Callable[[bytes, str], Any] = http_rules.decode_by_type,
        encode: Callable[[Any], tuple[bytes, str]] = http_rules.encode_by_type,
        name: str | None = None,
    ) -> None:
        if max_connections < 1:
            raise ConfigurationError(
                f"max_connections is expected to be at least 1, got {max_connections}"
            )
        self._client = ObjectClient(
            url,
            name=name,
            options=options,
            client_options=client_options,
            credentials=credentials,
            timeout=timeout,
            total_timeout=total_timeout,
            retries=retries,
        )
        self._is_local = self._client.scheme == "file"
        if conditional and self._is_local:
            raise ConfigurationError("files have no conditional writes: leave conditional out")
        self.name = self._client.name
        self.parallel = max_connections
        self._max_body = size_in_bytes(max_body)
        self._writable = writable
        self._conditional = conditional
        self._policy = CachePolicy(ttl_from_headers)
        self._decode = decode
        self._encode = encode
        self._seen: OrderedDict[str, str] = OrderedDict()
        self._seeing = threading.Lock()

    # Values

    def load(self, key: str, held: Validators | None = None) -> Answer[Any]:
        import obstore

        path, options = path_of(key), _conditions(held)
        with self._client.calling("GET", key) as call:
            try:
                result = obstore.get(self._client.store, path, options=options)
            except (FileNotFoundError, obstore.exceptions.NotModifiedError) as error:
                return self._without_body(key, call, error)
            self._check_size(key, result.meta)
            return self._answer(key, call, result, bytes(result.bytes()))

    async def aload(self, key: str, held: Validators | None = None) -> Answer[Any]:
        import obstore

        path, options = path_of(key), _conditions(held)
        with self._client.calling("GET", key) as call:
            try:
                result = await obstore.get_async(self._client.store, path, options=options)
            except (FileNotFoundError, obstore.exceptions.NotModifiedError) as error:
                return self._without_body(key, call, error)
            self._check_size(key, result.meta)
            return self._answer(key, call, result, bytes(await result.bytes_async()))

    async def aload_many(self, keys: Iterable[str]) -> dict[str, Answer[Any] | Exception]:
        return await self._at_once(keys)

    def store(
        self,
        key: str,
        value: Any,
        *,
        if_match: Validators | None = None,
        if_absent: bool = False,
    ) -> Validators | None:
        """Write an object; with ``if_match`` only in the place of that version.

        With ``if_absent`` it is only written if there is none yet.

        Raises:
            ConflictError: there is another version; nothing was written.
            OriginError: the store cannot do that, or failed.
        """
        import obstore

        path, body, more = self._prepared(key, value, if_match, if_absent)
        with self._client.calling("PUT", key) as call:
            call.bytes_out = len(body)
            written = obstore.put(self._client.store, path, body, use_multipart=False, **more)
        return self._noted(key, written["e_tag"])

    async def astore(
        self,
        key: str,
        value: Any,
        *,
        if_match: Validators | None = None,
        if_absent: bool = False,
    ) -> Validators | None:
        """Twin of `store`."""
        import obstore

        path, body, more = self._prepared(key, value, if_match, if_absent)
        with self._client.calling("PUT", key) as call:
            call.bytes_out = len(body)
            written = await obstore.put_async(
                self._client.store, path, body, use_multipart=False, **more
            )
        return self._noted(key, written["e_tag"])

    def delete(self, key: str) -> None:
        import obstore

        self._require_writable()
        path = path_of(key)
        with self._client.calling("DELETE", key), contextlib.suppress(FileNotFoundError):
            obstore.delete(self._client.store, path)
        self._noted(key, None)

    async def adelete(self, key: str) -> None:
        import obstore

        self._require_writable()
        path = path_of(key)
        with self._client.calling("DELETE", key), contextlib.suppress(FileNotFoundError):
            await obstore.delete_async(self._client.store, path)
        self._noted(key, None)

    # Objects of any size

    def open(self, key: str) -> BinaryIO:
        """Open an object for reading from its beginning to its end, `PIECE` bytes at a time.

        Raises:
            NotFoundError: there is no such object.
            OriginError: it could not be opened; reading may raise it, too.
        """
        return io.BufferedReader(self._reader(key), PIECE)

    async def stream(self, key: str) -> AsyncIterator[bytes]:
        """Read an object as an async iterator of pieces of about `PIECE` bytes.

        Raises:
            NotFoundError: there is no such object.
            OriginError: it failed, be it in the middle.
        """
        import obstore

        path = path_of(key)
        with self._client.calling("GET", key):
            result = await obstore.get_async(self._client.store, path)
            pieces = aiter(result.stream(PIECE))
        read = 0
        while True:
            with self._client.calling("GET", key, calls=0) as call:
                piece = await anext(pieces, None)
                if piece is None:
                    check_whole(key, read, result.meta)
                    return
                call.bytes_in = len(piece)
            read += len(piece)
            yield piece

    def download(self, key: str, path: str | os.PathLike[str]) -> StoredObject:
        """Copy an object to a file, which is there when all of it has arrived, and not before.

        Raises:
            NotFoundError: there is no such object.
            OriginError: it failed; a file that was there is as it was.
            OSError: the file cannot be written.
        """
        target = Path(path)
        handle, partial = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                reader = self._reader(key)
                shutil.copyfileobj(io.BufferedReader(reader, PIECE), file, PIECE)
            os.replace(partial, target)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(partial)
            raise
        return stored(reader.meta, key)

    async def adownload(self, key: str, path: str | os.PathLike[str]) -> StoredObject:
        """Twin of `download`, in a worker thread."""
        return await run_in_thread(self.download, key, path)

    def upload(
        self,
        key: str,
        path: str | os.PathLike[str],
        *,
        if_match: Validators | None = None,
        if_absent: bool = False,
    ) -> Validators | None:
        """Copy a file to an object, in parts if it is large; it is there as a whole or not at all.

        ``if_match`` and ``if_absent`` are those of `store`. Then the file is sent in one piece and
        read into memory, so it may be no larger than ``max_body``.

        Raises:
            ConflictError: there is another version; nothing was written.
            OriginError: the store cannot do that, or failed.
            OSError: the file cannot be read.
        """
        import obstore

        source, size = Path(path), os.path.getsize(path)
        kind = mimetypes.guess_type(key)[0] or "application/octet-stream"
        more = self._terms_of_write(key, kind, if_match, if_absent)
        if "mode" in more and size > self._max_body:
            raise OriginError(
                f"PUT {self.name}/{key}: a conditional upload is expected to be of at most "
                f"max_body={self._max_body} bytes, the file has {size}"
            )
        with self._client.calling("PUT", key) as call:
            call.bytes_out = size
            written = obstore.put(
                self._client.store,
                path_of(key),
                source,
                use_multipart=size > PART and "mode" not in more,
                chunk_size=PART,
                max_concurrency=PARTS,
                **more,
            )
        return self._noted(key, written["e_tag"])

    async def aupload(
        self,
        key: str,
        path: str | os.PathLike[str],
        *,
        if_match: Validators | None = None,
        if_absent: bool = False,
    ) -> Validators | None:
        """Twin of `upload`, in a worker thread."""

        def upload() -> Validators | None:
            return self.upload(key, path, if_match=if_match, if_absent=if_absent)

        return await run_in_thread(upload)

    def objects(self, prefix: str = "") -> Iterator[StoredObject]:
        """The objects below a prefix, which is one of whole parts: ``a/b`` is none of ``a/bc``.

        They are asked for as they are iterated over, a thousand at a time, in no certain order.

        Raises:
            OriginError: it failed.
        """
        import obstore

        where = path_of(prefix.rstrip("/")) if prefix else None
        listing = iter(obstore.list(self._client.store, where, chunk_size=1000))
        while True:
            with self._client.calling("LIST", prefix):
                found = next(listing, None)
            if found is None:
                return
            yield from map(stored, found)

    async def aobjects(self, prefix: str = "") -> AsyncIterator[StoredObject]:
        """Twin of `objects`."""
        import obstore

        where = path_of(prefix.rstrip("/")) if prefix else None
        listing = aiter(obstore.list(self._client.store, where, chunk_size=1000))
        while True:
            with self._client.calling("LIST", prefix):
                found = await anext(listing, None)
            if found is None:
                return
            for meta in found:
                yield stored(meta)

    # What origins have in common

    @property
    def writable(self) -> bool:
        return self._writable

    def usage(self) -> OriginUsage:
        return self._client.meter.usage()

    def close(self) -> None:
        self._client.close()

    def __repr__(self) -> str:
        return f"ObjectStoreOrigin({self.name})"

    def _reader(self, key: str) -> ObjectReader:
        import obstore

        path = path_of(key)
        with self._client.calling("GET", key):
            return ObjectReader(self._client, key, obstore.get(self._client.store, path))

    # What to send and what the answers mean, the same for both faces.

    def _without_body(self, key: str, call: Call, error: Exception) -> Answer[Any]:
        if isinstance(error, FileNotFoundError):
            if not is_missing(error):
                raise error
            self._noted(key, None)
            return NotFound()
        call.not_modified = 1
        return NotModified()

    def _check_size(self, key: str, meta: ObjectMeta) -> None:
        if meta["size"] > self._max_body:
            raise OriginError(
                f"GET {self.name}/{key}: the object is over max_body={self._max_body} bytes; "
                "open(), stream() and download() take any size"
            )

    def _answer(self, key: str, call: Call, result: GetResult, body: bytes) -> Answer[Any]:
        call.bytes_in = len(body)
        check_whole(key, len(body), result.meta)
        said = result.attributes
        try:
            value = self._decode(body, said.get("Content-Type") or _type_of(key))
        except (ValueError, RecursionError) as error:  # msgspec raises both
            raise OriginError(
                f"GET {self.name}/{key} answered with a body that is damaged: {error}"
            ) from error
        headers = {"etag": result.meta["e_tag"] or ""}
        if "Cache-Control" in said:
            headers["cache-control"] = said["Cache-Control"]
        terms = self._policy.terms(Reply(200, headers, b""))
        marks = self._noted(key, result.meta["e_tag"])
        if marks is not None and terms.must_revalidate:
            marks = Validators(marks.etag, must_revalidate=True)
        return Loaded(value, terms.ttl, marks, stale=terms.stale, store=terms.store)

    def _prepared(
        self, key: str, value: Any, if_match: Validators | None, if_absent: bool
    ) -> tuple[str, bytes, dict[str, Any]]:
        self._require_writable()
        path = path_of(key)
        body, kind = self._encode(value)
        if self._is_local and self._encode is http_rules.encode_by_type:
            self._check_type(key, value, body, kind)
        return path, body, self._terms_of_write(key, kind, if_match, if_absent)

    def _check_type(self, key: str, value: Any, body: bytes, kind: str) -> None:
        """Refuse what would come back as something else, for files have names and no types."""
        media = kind.partition(";")[0]
        read = _type_of(key)
        if self._decode is not http_rules.decode_by_type or media == read:
            return
        if isinstance(value, (bytes, bytearray, memoryview)) and not (
            read.startswith("text/") or read.endswith("json")
        ):
            return
        if isinstance(value, str) and read.startswith("text/"):
            return
        raise OriginError(
            f"PUT {self.name}/{key}: a {type(value).__name__} would be read back as {read}, as "
            "files tell their type by their name: name it *.json, *.txt or *.bin, or give "
            "encode= and decode="
        )

    def _terms_of_write(
        self, key: str, kind: str, if_match: Validators | None, if_absent: bool
    ) -> dict[str, Any]:
        self._require_writable()
        more: dict[str, Any] = {} if self._is_local else {"attributes": {"Content-Type": kind}}
        if if_match is not None and if_match.etag is None:
            raise OriginError(f"PUT {self.name}/{key}: if_match needs an ETag")
        etag = None if if_match is None else if_match.etag
        if self._conditional and etag is None and not if_absent:
            with self._seeing:
                etag = self._seen.get(key)
            if_absent = etag is None
        if etag is not None:
            more["mode"] = {"e_tag": etag}
        elif if_absent:
            more["mode"] = "create"
        return more

    def _noted(self, key: str, etag: str | None) -> Validators | None:
        """Remember which version of an object was seen last, and return its validators."""
        if self._conditional:
            with self._seeing:
                self._seen.pop(key, None)
                if etag is not None:
                    self._seen[key] = etag
                if len(self._seen) > REMEMBERED:
                    self._seen.popitem(last=False)
        return None if etag is None else Validators(etag)

    def _require_writable(self) -> None:
        if not self._writable:
            raise self._read_only("give it writable=True")


def _conditions(held: Validators | None) -> Any:
    return None if held is None or held.etag is None else {"if_none_match": held.etag}


def _type_of(key: str) -> str:
    return mimetypes.guess_type(key)[0] or "application/octet-stream"
