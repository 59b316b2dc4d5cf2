"""Envoy's mesh listener: :authority names the service, and a service that is down or not ready is UNAVAILABLE."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from mycel.error.v1.error_reason_pb2 import ErrorReason

from services.common.channels import open_channel
from services.common.server import Service
from services.common.status import from_rpc_error
from services.common.telemetry import Telemetry
from tests.integration.envoy.door import Door, running_envoy

BEHIND = ("cache", "provider", "inference")

PING = "/test.Ping/Ping"


def ping_service(name: str, log: list[str]) -> Service:
    """A service that answers with its own name."""

    async def ping(request: bytes, context: Any) -> bytes:
        log.append(dict(context.invocation_metadata()).get("x-mycel-tenant", ""))
        return name.encode()

    handler = grpc.method_handlers_generic_handler("test.Ping", {"Ping": grpc.unary_unary_rpc_method_handler(ping)})
    return Service("test.Ping", lambda server: server.add_generic_rpc_handlers((handler,)))


@contextlib.asynccontextmanager
async def channel_to(door: Door, authority: str) -> AsyncIterator[Any]:
    """As the router opens its channels."""
    async with open_channel(door.mesh_target, Telemetry.disabled(), authority=authority) as channel:
        yield channel.unary_unary(PING)


async def unavailable(ping: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await ping(b"", timeout=10)
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    return raised.value


async def test_the_authority_names_the_service() -> None:
    tenants: list[str] = []
    async with running_envoy() as door, contextlib.AsyncExitStack() as stack:
        for name in BEHIND:
            await stack.enter_async_context(door.serve(name, [ping_service(name, tenants)]))
        for name in BEHIND:
            ping = await stack.enter_async_context(channel_to(door, f"{name}.mycel"))
            assert await ping(b"", metadata=(("x-mycel-tenant", name),)) == name.encode()
    assert tenants == list(BEHIND), "identity headers are kept inside the mesh"


async def test_an_unknown_authority_is_refused() -> None:
    async with running_envoy() as door, channel_to(door, "router.mycel") as ping:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await ping(b"", timeout=10)
    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_service_that_is_down_does_not_touch_the_others() -> None:
    async with running_envoy() as door, door.serve("provider", [ping_service("provider", [])]):
        async with channel_to(door, "cache.mycel") as ping:
            error = await unavailable(ping)
            assert from_rpc_error(error, "cache").reason == ErrorReason.ERROR_REASON_BACKEND_UNAVAILABLE
        async with channel_to(door, "provider.mycel") as ping:
            assert await ping(b"") == b"provider"


async def test_a_service_that_stops_and_one_that_starts_again() -> None:
    async with running_envoy() as door, channel_to(door, "cache.mycel") as ping:
        for _ in range(2):
            async with door.serve("cache", [ping_service("cache", [])]):
                assert await ping(b"") == b"cache"
            await unavailable(ping)


async def test_a_service_that_is_not_ready_gets_no_calls() -> None:
    service = ping_service("inference", [])
    async with (
        running_envoy() as door,
        channel_to(door, "inference.mycel") as ping,
        door.serve("inference", [service]) as server,
    ):
        await server.set_serving(False)
        await door.until_health("inference", wanted=False)
        await unavailable(ping)
        await server.set_serving(True)
        await door.until_health("inference", wanted=True)
        assert await ping(b"") == b"inference"


async def test_unavailable_answers_do_not_eject_a_service() -> None:
    """A provider that is down makes its service answer UNAVAILABLE; the service itself is well."""

    async def refuse(request: bytes, context: Any) -> bytes:
        await context.abort(grpc.StatusCode.UNAVAILABLE, "the provider is down")
        return b""

    handlers = {"Ping": grpc.unary_unary_rpc_method_handler(refuse)}
    handler = grpc.method_handlers_generic_handler("test.Ping", handlers)
    service = Service("test.Ping", lambda server: server.add_generic_rpc_handlers((handler,)))
    async with running_envoy() as door, door.serve("provider", [service]), channel_to(door, "provider.mycel") as ping:
        for _ in range(20):
            error = await unavailable(ping)
            assert error.details() == "the provider is down"


async def test_health_goes_to_the_service_that_is_meant() -> None:
    async with (
        running_envoy() as door,
        door.serve("cache", [ping_service("cache", [])]),
        open_channel(door.mesh_target, Telemetry.disabled(), authority="cache.mycel") as channel,
    ):
        request = health_pb2.HealthCheckRequest(service="test.Ping")
        answer = await health_pb2_grpc.HealthStub(channel).Check(request, timeout=10)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
