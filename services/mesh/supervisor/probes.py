"""Tells whether a part does its work: not whether its port is open."""

from __future__ import annotations

import asyncio
import http.client
import urllib.request
from collections.abc import Collection
from pathlib import Path
from typing import Final

import grpc
import psutil
from grpc_health.v1 import health_pb2, health_pb2_grpc
from mycel.completion.v1.completion_service_pb2 import ListModelsRequest
from mycel.completion.v1.completion_service_pb2_grpc import CompletionServiceStub

from services.common.channels import open_channel
from services.common.telemetry import UNSAMPLED, Telemetry
from services.mesh.envoy import EnvoyError
from services.mesh.envoy_admin import EnvoyAdmin

_PROBE_SECONDS: Final = 1.0
_LOOKS_PER_SCAN: Final = 30
_STUB: Final = "triton_python"  # the kernel cuts longer names


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

    def get() -> bool:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(url, timeout=_PROBE_SECONDS) as answer:
                return bool(answer.status == 200)  # noqa: PLR2004
        except (OSError, http.client.HTTPException):
            return False

    return await asyncio.to_thread(get)


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


class StubWatch:
    """Finds out that a model's Python process died, which tritonserver itself does not report.

    Requests to that model would get errors for as long as the server lives, though it says that it is ready.
    """

    def __init__(self) -> None:
        self._server = 0
        self._stubs: list[psutil.Process] = []
        self._looks = 0

    def __call__(self, server_pid: int) -> str:
        """Tells what is wrong with a server; empty when nothing is."""
        if server_pid != self._server:
            self._server, self._stubs, self._looks = server_pid, [], 0
        if not all(_is_live(stub) for stub in self._stubs):
            return "a model's process died"
        # Looking for new ones means reading about every process of the machine: seldom, once some are known.
        if not self._stubs or self._looks % _LOOKS_PER_SCAN == 0:
            self._stubs = _live_stubs(server_pid)
        self._looks += 1
        return ""


def _live_stubs(server_pid: int) -> list[psutil.Process]:
    try:
        children = psutil.Process(server_pid).children()
        return [child for child in children if _is_live(child) and child.name().startswith(_STUB)]
    except psutil.Error:
        return []  # it is ending: its exit tells


def _is_live(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
