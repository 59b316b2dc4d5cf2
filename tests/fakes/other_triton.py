"""A server on Triton's wire that says it is of another version."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc


class _Other(service_pb2_grpc.GRPCInferenceServiceServicer):
    def __init__(self, name: str, version: str) -> None:
        self._metadata = service_pb2.ServerMetadataResponse(name=name, version=version)

    async def ModelReady(self, request: Any, context: Any) -> Any:
        return service_pb2.ModelReadyResponse(ready=True)

    async def ServerMetadata(self, request: Any, context: Any) -> Any:
        return self._metadata


@asynccontextmanager
async def other_triton(name: str, version: str) -> AsyncIterator[str]:
    """Gives the address of a server with this metadata, on which every model is ready."""
    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(_Other(name, version), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)
