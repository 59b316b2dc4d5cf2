"""Keeps entries in Milvus: in a file of Milvus Lite's, or on a Milvus server or cluster, with the same code.

Milvus Lite is run here by its own server class, on a socket in its folder: `MilvusClient("cache.db")` would open a
loopback port from which every user of the machine could read all tenants' answers. It writes each change to a
log that the operating system has before it answers: an acknowledged entry survives the death of the process. It does
not sync that log to the disk, so a power cut may cost the last seconds' entries; a Milvus cluster covers that.
"""

from __future__ import annotations

import base64
import logging
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit, urlunsplit

import numpy as np
from mycel.error.v1.error_reason_pb2 import ErrorReason
from pymilvus import DataType, MilvusClient
from pymilvus.exceptions import MilvusException

from services.cache.embedder import Vector
from services.cache.entries import Entry, EntryInfo
from services.cache.store import StoreFormatError, StoreInUseError
from services.common.errors import MycelError
from services.common.settings import SettingsError

_log = logging.getLogger("mycel.cache.store")

_T = TypeVar("_T")

_COLLECTION: Final = "mycel_cache_v1"
"""Carries the schema's version: another version's entries are in another collection."""

_CALL_SECONDS: Final = 5.0
_SCAN_SECONDS: Final = 30.0
_CONNECT_SECONDS: Final = 10.0

_RETRY_SECONDS: Final = 0.5

_RECONNECTION: Final = {
    "grpc.initial_reconnect_backoff_ms": 200,
    "grpc.max_reconnect_backoff_ms": 2_000,
    "grpc.use_local_subchannel_pool": 1,
}
"""A server that was away is found again within two seconds of its return, and not after minutes."""

_PAGE: Final = 8192
"""Entries a page of a scan. Milvus Lite reads everything for each page: fewer pages are faster; Milvus allows 16384."""

_CHUNK: Final = 65_532
"""Characters a piece of a text field: Milvus allows 65,535 bytes; a multiple of four keeps base64 whole."""

MAX_ANSWER_BYTES: Final = 2 * 1024 * 1024
"""The largest answer that the schema's pieces can hold, with room to spare."""

_MAX_PIECES: Final = 64

_INFO_FIELDS: Final = (
    *("id", "tenant", "scope", "surroundings", "question", "model", "answer_bytes", "created_at", "expires_at"),
    "embedder_id",
)

_LONGEST_SOCKET_PATH: Final = 100
"""Bytes; the system allows 107."""

_LOCAL: Final = re.compile(r"^(?!\w+://)(?!unix:)")


class MilvusStore:
    """A `Store` in Milvus."""

    def __init__(self, uri: str, dimensions: int, *, token: str = "") -> None:
        """Opens the store, and makes its collection when there is none. Blocks, for seconds on a server.

        Args:
            uri: `http://`, `https://`, `tcp://` or `unix:` for a server; anything else is Milvus Lite's folder.
            dimensions: the length of the vectors.
            token: `user:password` or an API key, for a server.

        Raises:
            StoreInUseError: another process has Milvus Lite's folder open.
            StoreFormatError: what is there is of another version, or damaged.
            SettingsError: the folder cannot be written, or the server cannot be reached.
        """
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # a failure has its line here, or is raised
        self.uri = _without_secrets(uri)
        self._dimensions = dimensions
        self._lite: _LiteServer | None = None
        address = uri
        if _LOCAL.match(uri):
            self._lite = _LiteServer(Path(uri))
            address = self._lite.address
        try:
            self._client = self._open(address, token)
        except MilvusException as error:
            self._stop_lite()
            raise SettingsError(f"cache store {self.uri}: {error.message}") from error
        except BaseException:
            self._stop_lite()
            raise

    def put(self, entries: Sequence[Entry]) -> None:
        """Keeps entries; see `Store`."""
        rows = [self._row(entry) for entry in entries]
        self._call(partial(self._client.upsert, _COLLECTION, rows, timeout=_CALL_SECONDS))

    def delete(self, ids: Sequence[str]) -> None:
        """Removes entries; see `Store`."""
        for begin in range(0, len(ids), _PAGE):
            page = list(ids[begin : begin + _PAGE])
            self._call(partial(self._client.delete, _COLLECTION, ids=page, timeout=_CALL_SECONDS))

    def get(self, entry_id: str) -> Entry | None:
        """Reads one entry; see `Store`."""
        fields = [*_INFO_FIELDS, "vector", "answer"]
        rows = self._call(
            partial(self._client.get, _COLLECTION, ids=[entry_id], output_fields=fields, timeout=_CALL_SECONDS)
        )
        if not rows:
            return None
        info, vector, embedder_id = _summary(rows[0])
        return Entry(info, base64.b64decode("".join(rows[0]["answer"])), vector, embedder_id)

    def scan(self) -> Iterator[list[tuple[EntryInfo, Vector | None, str]]]:
        """Reads every entry but its answer; see `Store`."""
        fields = [*_INFO_FIELDS, "vector"]
        options = {"batch_size": _PAGE, "timeout": _SCAN_SECONDS, "consistency_level": "Strong"}
        pages = self._call(partial(self._client.query_iterator, _COLLECTION, output_fields=fields, **options))
        try:
            while rows := self._call(pages.next):
                yield [_summary(row) for row in rows]
        finally:
            pages.close()

    def close(self) -> None:
        """Closes the connection, and Milvus Lite's files when they are ours."""
        with suppress(MilvusException):
            self._client.close()
        self._stop_lite()

    def _stop_lite(self) -> None:
        if self._lite is not None:
            self._lite.close()

    def _call(self, call: Callable[[], _T]) -> _T:
        try:
            return call()
        except MilvusException as error:
            _log.warning("the store failed: %s", error)
            raise MycelError(
                ErrorReason.ERROR_REASON_STORE_UNAVAILABLE, "the cache's store failed", metadata={"store": "milvus"}
            ) from error

    def _open(self, address: str, token: str) -> MilvusClient:
        """Connects; a server that is still starting gets some seconds."""
        until = time.monotonic() + _CONNECT_SECONDS
        while True:
            try:
                client = MilvusClient(address, token=token, timeout=_CONNECT_SECONDS, grpc_options=_RECONNECTION)
                self._prepare(client)
            except MilvusException:
                if self._lite is not None or time.monotonic() >= until:
                    raise
                time.sleep(_RETRY_SECONDS)
            else:
                return client

    def _prepare(self, client: MilvusClient) -> None:
        if client.has_collection(_COLLECTION, timeout=_CONNECT_SECONDS):
            self._check_schema(client)
        else:
            self._create(client)
        client.load_collection(_COLLECTION, timeout=_SCAN_SECONDS)

    def _check_schema(self, client: MilvusClient) -> None:
        fields = client.describe_collection(_COLLECTION, timeout=_CONNECT_SECONDS)["fields"]
        names = {field["name"] for field in fields}
        dimensions = next((int(field["params"]["dim"]) for field in fields if field["name"] == "vector"), 0)
        if names != {*_INFO_FIELDS, "vector", "answer"} or dimensions != self._dimensions:
            raise StoreFormatError(
                f"cache store {self.uri}: its collection {_COLLECTION} has other fields or vectors of another length; "
                "point cache.store.uri somewhere else, or remove it"
            )

    def _create(self, client: MilvusClient) -> None:
        schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=64)
        schema.add_field("tenant", DataType.VARCHAR, max_length=1024, is_partition_key=True)
        for name, length in (("scope", 1024), ("surroundings", 64), ("question", 65_535), ("model", 1024)):
            schema.add_field(name, DataType.VARCHAR, max_length=length)
        schema.add_field("embedder_id", DataType.VARCHAR, max_length=256)
        for name in ("answer_bytes", "created_at", "expires_at"):
            schema.add_field(name, DataType.INT64)
        schema.add_field(
            "answer", DataType.ARRAY, element_type=DataType.VARCHAR, max_capacity=_MAX_PIECES, max_length=65_535
        )
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=self._dimensions)
        # Milvus wants an index on every vector; the cache searches its own, in memory.
        index = client.prepare_index_params()
        index.add_index("vector", index_type="FLAT", metric_type="COSINE")
        client.create_collection(_COLLECTION, schema=schema, timeout=_SCAN_SECONDS)
        # Without waiting for it: loading the collection does that, and Milvus Lite cannot be asked.
        client.create_index(_COLLECTION, index, timeout=_SCAN_SECONDS, sync=False)

    def _row(self, entry: Entry) -> dict[str, Any]:
        info = entry.info
        vector = np.zeros(self._dimensions, dtype=np.float32) if entry.vector is None else entry.vector
        text = base64.b64encode(entry.answer).decode()
        return {
            **{name: getattr(info, name) for name in _INFO_FIELDS if name != "embedder_id"},
            "embedder_id": entry.embedder_id,
            "answer": [text[begin : begin + _CHUNK] for begin in range(0, len(text), _CHUNK)],
            "vector": vector,
        }


class _LiteServer:
    """Milvus Lite's server on a socket that only this user can reach."""

    def __init__(self, folder: Path) -> None:
        logging.getLogger("faiss").setLevel(logging.WARNING)
        # Imported when needed: a cache on a Milvus server does without, and saves the memory.
        from milvus_lite.adapter.grpc.server import start_server_in_thread  # noqa: PLC0415
        from milvus_lite.exceptions import DataDirLockedError, MilvusLiteError  # noqa: PLC0415

        self._scratch: Path | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            # The server joins host and port with a colon, which makes a socket's address of these two.
            socket: Any = self._socket_path(folder)
            self._server, self._db, _ = start_server_in_thread(str(folder), host="unix", port=socket)
            self.address = f"unix:{socket}"
        except DataDirLockedError as error:
            self._remove_scratch()
            raise StoreInUseError(f"cache store {folder}: another process is using it") from error
        except (FileExistsError, NotADirectoryError) as error:
            self._remove_scratch()
            raise StoreFormatError(f"cache store {folder}: not a store of this version of Milvus Lite") from error
        except (OSError, MilvusLiteError) as error:
            self._remove_scratch()
            raise SettingsError(f"cache store {folder}: {getattr(error, 'strerror', None) or error}") from error

    def close(self) -> None:
        """Stops the server, writes what is in memory to the folder, and gives it back."""
        self._server.stop(grace=2).wait()
        self._db.close()
        self._remove_scratch()

    def _socket_path(self, folder: Path) -> str:
        path = str(folder.resolve() / "socket")
        if len(path.encode()) > _LONGEST_SOCKET_PATH:
            self._scratch = Path(tempfile.mkdtemp(prefix="mycel-store-"))
            path = str(self._scratch / "socket")
        return path

    def _remove_scratch(self) -> None:
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)


def _summary(row: dict[str, Any]) -> tuple[EntryInfo, Vector | None, str]:
    embedder_id = str(row["embedder_id"])
    info = EntryInfo(**{name: row[name] for name in _INFO_FIELDS if name != "embedder_id"})
    return info, np.asarray(row["vector"], dtype=np.float32) if embedder_id else None, embedder_id


def _without_secrets(uri: str) -> str:
    if _LOCAL.match(uri):
        return uri
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=""))
