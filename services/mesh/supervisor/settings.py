"""What `mycel up` is told, checked before anything is started."""

from __future__ import annotations

import errno
import os
import socket
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.common.config import ConfigError, MeshConfig, load_config
from services.common.settings import SettingsError, home, runtime
from services.common.triton_server import LlamaModel, TritonRuntime, TritonSetupError, configured_models
from services.mesh.discover import with_local_ollama
from services.mesh.envoy import EnvoyError, HostPort, find_envoy
from services.mesh.otlp.forward import CollectorSettings, collector_settings
from services.mesh.supervisor.errors import UpError

DEFAULT_INGRESS: Final = "127.0.0.1:8080"


@dataclass(frozen=True, slots=True)
class UpSettings:
    """Everything that was checked."""

    mesh: MeshConfig
    config_path: Path
    home: Path
    runtime: Path
    ingress: HostPort
    """The port is never 0: a free one is chosen for it."""
    envoy: Path
    """The Envoy binary."""
    triton: TritonRuntime | None
    """Triton's runtime; None when no local model is served from here."""
    models: tuple[LlamaModel, ...]
    """What Triton serves."""
    external_triton: str
    """MYCEL_TRITON: a Triton that runs elsewhere, as `host:port`; empty when this mesh starts its own."""
    collector: CollectorSettings | None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], state: Path) -> UpSettings:
        """Reads and checks all of it.

        Args:
            environment: as `os.environ` has it.
            state: the state folder, from `state_folder`.

        Raises:
            UpError: something is missing or wrong; the message is one line.
        """
        try:
            loaded = with_local_ollama(load_config(), state)
            external = environment.get("MYCEL_TRITON", "")
            models = () if external else configured_models(loaded.mesh, loaded.path)
            triton = TritonRuntime.locate(runtime() / "triton") if models else None
            _check_embedder(loaded.mesh, runtime())
            return cls(
                mesh=loaded.mesh,
                config_path=loaded.path,
                home=state,
                runtime=runtime(),
                ingress=_free_ingress(environment.get("MYCEL_INGRESS", DEFAULT_INGRESS)),
                envoy=find_envoy(),
                triton=triton,
                models=models,
                external_triton=external,
                collector=collector_settings(environment),
            )
        except (ConfigError, SettingsError, TritonSetupError, EnvoyError) as error:
            raise UpError(str(error)) from error

    def secrets(self) -> frozenset[str]:
        """Gives the variables that the providers are set up from: their keys above all."""
        return frozenset().union(*(provider.variables() for provider in self.mesh.providers.values()))


def _check_embedder(mesh: MeshConfig, runtime_folder: Path) -> None:
    manifest = runtime_folder / "minilm" / "manifest.json"
    if mesh.cache.mode == "semantic" and not manifest.is_file():
        raise UpError(f"the embedding model is not in {manifest.parent}: run `make setup`")


def state_folder() -> Path:
    """Gives the state folder, made when it is missing.

    Raises:
        UpError: it cannot be written, or this is no system that the mesh runs on.
    """
    if sys.platform != "linux":
        raise UpError(f"the mesh runs on Linux, and this is {sys.platform}: use a Linux machine or a container")
    folder = home()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise UpError(f"MYCEL_HOME: the state folder {folder} cannot be written: {error.strerror}") from error


def _free_ingress(text: str) -> HostPort:
    """Resolves the ingress to an address that Envoy takes, and makes sure that nobody listens there."""
    asked = HostPort.parse(text)
    try:
        family, kind, _, _, found = socket.getaddrinfo(asked.host, asked.port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(found)
            probe.listen()
            host, port = probe.getsockname()[:2]
            return HostPort(str(host), int(port))
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        hint = "; is another mesh or server running? Set MYCEL_INGRESS to another address" if taken else ""
        raise UpError(f"MYCEL_INGRESS: {asked} cannot be listened on: {error.strerror}{hint}") from error


def free_ports(count: int) -> tuple[int, ...]:
    """Finds loopback ports that nobody listens on.

    They are below the range that outgoing connections take theirs from, so that nothing takes them meanwhile by chance.

    Raises:
        UpError: there are not as many.
    """
    found: list[int] = []
    start = 20_000 + os.getpid() % 8_000
    for port in [*range(start, 32_000), *range(20_000, start)]:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return tuple(found)
    raise UpError(f"{count} free loopback ports are needed")
