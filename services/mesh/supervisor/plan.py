"""The parts of a mesh on one machine, and how each is started."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from services.common.triton_server import (
    TritonPorts,
    TritonRuntime,
    TritonServerOptions,
    remove_shared_memory,
    server_command,
    write_backends,
    write_model_repository,
)
from services.mesh.envoy import (
    MESH_SERVICES,
    HostPort,
    LocalAddresses,
    envoy_command,
    load_config,
    localise,
    write_config,
)
from services.mesh.envoy_admin import EnvoyAdmin
from services.mesh.supervisor.environment import STORE_TOKEN, outbound_environment, part_environment
from services.mesh.supervisor.keeper import RUN_ID_VARIABLE
from services.mesh.supervisor.part import Part
from services.mesh.supervisor.probes import SilenceWatch, envoy_ready, http_ok, models_off, service_ready
from services.mesh.supervisor.settings import UpSettings
from services.mesh.supervisor.state import RunState

TRITON: Final = "triton"
ENVOY: Final = "envoy"
_EXPORT_MILLISECONDS: Final = "500"
"""How long a service keeps spans back: a trace is whole soon after its call."""
_SERVICE_SECONDS: Final = 60.0
_MODEL_SECONDS: Final = 900.0
"""How long loading models may take: large files on slow disks take minutes."""
_TRITON_EXIT_SECONDS: Final = 3
"""How long Triton lets answers finish when it is stopped: Ctrl-C to all gone takes ten seconds at most."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What `mycel up` starts."""

    settings: UpSettings
    state: RunState
    environment: Mapping[str, str]
    """The environment of `mycel up`."""

    @property
    def admin(self) -> EnvoyAdmin:
        return EnvoyAdmin(self.state.socket("admin"))

    def parts(self) -> list[Part]:
        """Gives every part. Writes the configuration of Envoy and Triton, into the run folder and the state folder.

        Raises:
            EnvoyError, TritonSetupError, OSError: a configuration cannot be made or written.
        """
        services = [self._service(name) for name in MESH_SERVICES]
        triton = [self._triton(self.settings.triton)] if self.settings.triton else []
        return [self._envoy(), *triton, *services]

    def _own(self, **extra: str) -> dict[str, str]:
        triton = {"MYCEL_TRITON": self.state.triton_grpc} if self.state.triton_grpc else {}
        return {
            RUN_ID_VARIABLE: self.state.run_id,
            "MYCEL_CONFIG": str(self.settings.config_path),
            "MYCEL_HOME": str(self.settings.home),
            "MYCEL_RUNTIME": str(self.settings.runtime),
            "MYCEL_INGRESS": self.state.ingress,
            "MYCEL_MESH": f"unix:{self.state.socket('mesh')}",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{self.state.otlp_grpc}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            "OTEL_BSP_SCHEDULE_DELAY": _EXPORT_MILLISECONDS,
            **triton,
            **extra,
        }

    def _service(self, name: str) -> Part:
        socket = self.state.socket(name)
        own = self._own(**{f"MYCEL_{name.upper()}_LISTEN": f"unix:{socket}"})
        if name == "provider":
            environment = outbound_environment(self.environment, own, self.settings.secrets())
        else:
            environment = part_environment(self.environment, own, [STORE_TOKEN] if name == "cache" else ())
        local = name == "inference"
        return Part(
            name=name,
            # -P: a folder `services` where `mycel up` was called must not be taken for ours.
            command=(sys.executable, "-P", "-m", f"services.{name}"),
            environment=environment,
            log=self._log(name),
            ready=partial(service_ready, socket),
            address=f"unix:{socket}",
            patience=_MODEL_SECONDS if local else _SERVICE_SECONDS,
            obstacle=self._no_model if local else None,
        )

    def _envoy(self) -> Part:
        state = self.state
        addresses = LocalAddresses(
            ingress=self.settings.ingress,
            mesh=state.socket("mesh"),
            admin=state.socket("admin"),
            services={name: state.socket(name) for name in MESH_SERVICES},
            otlp=HostPort.parse(state.otlp_grpc),
        )
        config = Path(state.run_dir) / "envoy.yaml"
        write_config(localise(load_config(), addresses), config)
        return Part(
            name=ENVOY,
            command=tuple(envoy_command(self.settings.envoy, config)),
            environment=part_environment(self.environment, self._own()),
            log=self._log(ENVOY),
            ready=partial(envoy_ready, self.admin),
            address=state.ingress,
        )

    def _triton(self, runtime: TritonRuntime) -> Part:
        state = self.state
        folder = self.settings.home / "triton"
        write_backends(folder / "backends", runtime)
        write_model_repository(folder / "models", self.settings.models)
        options = TritonServerOptions(
            repository=folder / "models",
            backends=folder / "backends",
            models=tuple(model.name for model in self.settings.models),
            ports=TritonPorts(
                http=HostPort.parse(state.triton_http).port,
                grpc=HostPort.parse(state.triton_grpc).port,
                metrics=HostPort.parse(state.triton_metrics).port,
            ),
            shared_memory_prefix=state.shm_prefix,
            traces_url=f"http://{state.otlp_http}/v1/traces",
            exit_timeout=_TRITON_EXIT_SECONDS,
        )
        command, environment = server_command(runtime, options, part_environment(self.environment, self._own()))
        return Part(
            name=TRITON,
            command=tuple(command),
            environment=environment,
            log=self._log(TRITON),
            # It opens its ports when every model has been tried; the inference service tells of those that failed.
            ready=partial(http_ok, self._triton_live),
            address=state.triton_grpc,
            patience=_MODEL_SECONDS,
            before_start=partial(remove_shared_memory, state.shm_prefix),
            ailing=SilenceWatch(self._triton_live),
        )

    async def _no_model(self) -> str:
        """Tells why no local model can be served, once Triton has tried them all."""
        if not await http_ok(self._triton_live):
            return ""
        return await models_off(self.state.socket("inference"))

    @property
    def _triton_live(self) -> str:
        return f"http://{self.state.triton_http}/v2/health/live"

    def _log(self, name: str) -> Path:
        return self.settings.home / "logs" / f"{name}.log"
