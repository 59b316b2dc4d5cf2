"""How each provider does: what the provider service tells of it, and what the router has seen."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from mycel.completion.v1 import completion_service_pb2 as completion
from mycel.completion.v1.completion_service_pb2_grpc import CompletionServiceStub
from mycel.status.v1 import status_service_pb2 as status
from mycel.status.v1.status_service_pb2_grpc import StatusServiceStub

from services.common.channels import open_channel
from services.common.telemetry import UNSAMPLED, Telemetry
from services.mesh.supervisor.state import RunState

_SECONDS: Final = 3.0


@dataclass(frozen=True, slots=True)
class ProviderHealth:
    """How a provider does."""

    name: str
    on: bool
    why_off: str
    breaker: str
    """`closed`, `open` or `half open`; empty when the router does not tell."""
    until_probe_seconds: float
    """While it is open: until a probe may pass."""
    last_error: str
    """The reason of the last failure; empty for none."""
    last_error_at: str
    """When, as RFC 3339; empty for never."""
    failures: Mapping[str, int]
    """How often it failed since the router started, by reason."""
    first_token_p50_ms: float | None
    """The median time to the first token; None while too few answers are known."""
    requests_left: str
    """What is left of its limit on requests, such as `499 of 500`; empty when it never told."""
    tokens_left: str


async def mesh_providers(state: RunState) -> list[ProviderHealth]:
    """Gives every provider of a running mesh; what does not answer tells nothing."""
    told, seen = await asyncio.gather(_told(state), _seen(state))
    return [_merge(name, told.get(name), seen.get(name)) for name in sorted(told.keys() | seen.keys())]


async def _told(state: RunState) -> Mapping[str, completion.ProviderStatus]:
    async with open_channel(f"unix:{state.socket('provider')}", Telemetry.disabled()) as channel:
        request = completion.ListModelsRequest()
        try:
            answer = await CompletionServiceStub(channel).ListModels(request, timeout=_SECONDS, metadata=UNSAMPLED)
        except grpc.aio.AioRpcError:
            return {}
    return {provider.name: provider for provider in answer.providers}


async def _seen(state: RunState) -> Mapping[str, status.ProviderHealth]:
    async with open_channel(f"unix:{state.socket('router')}", Telemetry.disabled()) as channel:
        request = status.ListProviderHealthRequest()
        try:
            answer = await StatusServiceStub(channel).ListProviderHealth(request, timeout=_SECONDS, metadata=UNSAMPLED)
        except grpc.aio.AioRpcError:
            return {}
    return {provider.provider: provider for provider in answer.providers}


def _merge(name: str, told: completion.ProviderStatus | None, seen: status.ProviderHealth | None) -> ProviderHealth:
    told = told or completion.ProviderStatus(on=True)
    failed = seen is not None and bool(seen.last_error)
    breaker = status.BreakerState.Name(seen.breaker) if seen is not None else ""
    return ProviderHealth(
        name=name,
        on=told.on,
        why_off=told.why_off,
        breaker=breaker.removeprefix("BREAKER_STATE_").lower().replace("_", " "),
        until_probe_seconds=round(seen.until_probe.ToTimedelta().total_seconds(), 1) if seen is not None else 0.0,
        last_error=seen.last_error if seen is not None and failed else told.last_failure.reason,
        last_error_at=_time(seen.last_error_at if seen is not None and failed else told.last_failure.time),
        failures=dict(seen.failures) if seen is not None else {},
        first_token_p50_ms=_milliseconds(seen),
        requests_left=_left(told.requests if told.HasField("requests") else None),
        tokens_left=_left(told.tokens if told.HasField("tokens") else None),
    )


def _milliseconds(seen: status.ProviderHealth | None) -> float | None:
    if seen is None or not seen.HasField("first_token_p50"):
        return None
    return round(seen.first_token_p50.ToTimedelta().total_seconds() * 1e3, 1)


def _time(stamp: Timestamp) -> str:
    return stamp.ToJsonString() if stamp.seconds else ""


def _left(quota: completion.RemainingQuota | None) -> str:
    if quota is None:
        return ""
    return f"{quota.remaining} of {quota.limit}" if quota.limit else str(quota.remaining)
