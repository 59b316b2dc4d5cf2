"""The same code on a Milvus server's address: here Milvus Lite's own server, on a port."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from milvus_lite.adapter.grpc.server import start_server_in_thread
from mycel.cache.v1.cache_service_pb2_grpc import CacheServiceStub

from services.cache.serve import running_cache
from services.common.channels import open_channel
from services.common.status import from_rpc_error
from services.common.telemetry import Telemetry
from tests.integration.cache.calls import keep, look, refusal, text_of
from tests.integration.cache.conftest import cache_settings

QUESTION = "What is a semantic cache?"


class Server:
    """A Milvus server that can be stopped and started on the same port."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self._running = None

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        server, database, _ = start_server_in_thread(str(self._folder), port=self._port)
        self._running = (server, database)

    def stop(self) -> None:
        if self._running is not None:
            server, database = self._running
            server.stop(grace=0).wait()
            database.close()
            self._running = None


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "server")
    server.start()
    yield server
    server.stop()


async def kept_in_the_end(stub: CacheServiceStub, question: str, answer: str) -> bool:
    """Stores again and again until the server is found, for at most twenty calls."""
    for _ in range(20):
        try:
            await keep(stub, question, answer)
        except grpc.aio.AioRpcError as error:
            assert from_rpc_error(error, "cache").reason_name == "STORE_UNAVAILABLE"
            await asyncio.sleep(0.5)
        else:
            return True
    return False


async def test_a_server_that_goes_away_costs_hits_and_not_calls(tmp_path: Path, server: Server):
    settings = replace(cache_settings(tmp_path), store_uri=server.uri)
    async with (
        running_cache(settings, Telemetry.disabled()) as cache,
        open_channel(cache.address, Telemetry.disabled()) as channel,
    ):
        stub = CacheServiceStub(channel)
        await keep(stub, QUESTION, "By meaning.")
        server.stop()
        # What is in memory goes on being served; what cannot be written is told.
        assert text_of(await look(stub, QUESTION)) == "By meaning."
        assert text_of(await look(stub, "What does semantic cache mean?")) == "By meaning."
        error = await refusal(keep(stub, "How tall is Mount Fuji?", "3776 m"))
        assert error.reason_name == "STORE_UNAVAILABLE"
        assert (await look(stub, "How tall is Mount Fuji?")).HasField("miss")
        server.start()
        assert await kept_in_the_end(stub, "How tall is Mount Fuji?", "3776 m")
    async with (
        running_cache(settings, Telemetry.disabled()) as cache,
        open_channel(cache.address, Telemetry.disabled()) as channel,
    ):
        for question, answer in ((QUESTION, "By meaning."), ("How tall is Mount Fuji?", "3776 m")):
            assert text_of(await look(CacheServiceStub(channel), question)) == answer
