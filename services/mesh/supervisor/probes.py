"""Tells whether a part does its work: not whether its port is open."""

from __future__ import annotations

import asyncio
import http.client
import urllib.request
from collections.abc import Collection
from pathlib import Path
from typing import Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from mycel.completion.v1.completion_service_pb2 import ListModelsRequest
from mycel.completion.v1.completion_service_pb2_grpc import CompletionServiceStub

from services.common.channels import open_channel
from services.common.telemetry import UNSAMPLED, Telemetry
from services.mesh.envoy import EnvoyError
from services.mesh.envoy_admin import EnvoyAdmin

_PROBE_SECONDS: Final = 1.0
_SILENT_LOOKS: Final = 5
"""So many looks without an answer, a second apart or more, are not a busy machine any more."""


async def service_ready(socket: Path) -> bool:
    """Asks a service's gRPC health on its Unix socket."""
    if not await asyncio.to_thread(socket.exists):
        return False
    async with open_channel(f"unix:{socket}", Telemetry.disabled()) as channel:
        stub = health_pb2_grpc.HealthStub(channel)  # type: ignore[no-untyped-call]
        try:
            answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=_PROBE_SECONDS)
        except grpc.aio.AioRpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


async def models_off(socket: Path) -> str:
    """Gives the reasons why a backend can serve none of its models; empty when it serves one, or does not tell."""
    async with open_channel(f"unix:{socket}", Telemetry.disabled()) as channel:
        stub = CompletionServiceStub(channel)
        try:
            answer = await stub.ListModels(ListModelsRequest(), timeout=_PROBE_SECONDS, metadata=UNSAMPLED)
        except grpc.aio.AioRpcError:
            return ""
    if any(model.available for model in answer.models):
        return ""
    return "; ".join(f"{model.name}: {model.unavailable_reason}" for model in answer.models)


async def http_ok(url: str) -> bool:
    """Tells whether a GET of a loopback address is answered with 200."""
    return await asyncio.to_thread(_is_answered, url)


async def envoy_ready(admin: EnvoyAdmin) -> bool:
    """Tells whether Envoy's listeners are open."""
    return await asyncio.to_thread(admin.ready)


async def envoy_sees(admin: EnvoyAdmin, services: Collection[str]) -> bool:
    """Tells whether Envoy sends calls to every one of the services."""
    try:
        healthy = await asyncio.to_thread(admin.healthy_services)
    except EnvoyError:
        return False
    return all(healthy.get(name) for name in services)


class SilenceWatch:
    """Finds out that a server lives but does not answer any more, such as one that is stuck."""

    def __init__(self, url: str) -> None:
        """Makes a watch.

        Args:
            url: a loopback address that a live server answers with 200 at once.
        """
        self._url = url
        self._server = 0
        self._silent = 0

    def __call__(self, server_pid: int) -> str:
        """Tells what is wrong with a server; empty when nothing is."""
        if server_pid != self._server:
            self._server, self._silent = server_pid, 0
        self._silent = 0 if _is_answered(self._url) else self._silent + 1
        return f"it did not answer {self._silent} times in a row" if self._silent >= _SILENT_LOOKS else ""


def _is_answered(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=_PROBE_SECONDS) as answer:
            return bool(answer.status == 200)  # noqa: PLR2004
    except (OSError, http.client.HTTPException):
        return False
