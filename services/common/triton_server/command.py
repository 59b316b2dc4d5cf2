"""The command line and environment of a tritonserver process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.common.triton_server.runtime import TritonRuntime

_LOOPBACK: Final = "127.0.0.1"

# A venv of its own must not see the product's packages, nor take part in its tracing set-up.
_DROPPED_PREFIXES: Final = ("OTEL_", "PYTHON", "VIRTUAL_ENV")


@dataclass(frozen=True, slots=True)
class TritonPorts:
    """The ports that a server listens on."""

    http: int
    grpc: int
    metrics: int


@dataclass(frozen=True, slots=True)
class TritonServerOptions:
    """How a server is started.

    Attributes:
        repository: The model repository.
        backends: The backend directory.
        models: The models to load; others in the repository are left alone.
        ports: Where it listens.
        shared_memory_prefix: The start of the names of its files in /dev/shm; unique per server.
        host: The address it listens on.
        traces_url: Where OTLP/HTTP traces go, with the path `/v1/traces`; empty for none.
        exit_timeout: Whole seconds that a stop waits for answers in progress.
    """

    repository: Path
    backends: Path
    models: tuple[str, ...]
    ports: TritonPorts
    shared_memory_prefix: str
    host: str = _LOOPBACK
    traces_url: str = ""
    exit_timeout: int = 8


def server_command(
    runtime: TritonRuntime, options: TritonServerOptions, base_environment: Mapping[str, str]
) -> tuple[list[str], dict[str, str]]:
    """Gives a server's argument list and its whole environment.

    Args:
        runtime: The installed server.
        options: How it is started.
        base_environment: What it inherits; `os.environ` as a rule.
    """
    arguments = [
        str(runtime.server),
        f"--model-repository={options.repository}",
        f"--backend-directory={options.backends}",
        "--model-control-mode=explicit",
        *(f"--load-model={name}" for name in options.models),
        "--disable-auto-complete-config",
        # One bad model file must not keep the others from being served.
        "--exit-on-error=false",
        f"--exit-timeout-secs={options.exit_timeout}",
        f"--http-address={options.host}",
        f"--http-port={options.ports.http}",
        f"--grpc-address={options.host}",
        f"--grpc-port={options.ports.grpc}",
        f"--metrics-address={options.host}",
        f"--metrics-port={options.ports.metrics}",
        "--allow-gpu-metrics=false",
        f"--backend-config=python,shm-region-prefix-name={options.shared_memory_prefix}",
        *_trace_arguments(options.traces_url),
    ]
    return arguments, _environment(runtime, options, base_environment)


def _trace_arguments(url: str) -> list[str]:
    if not url:
        return []
    settings = [
        "mode=opentelemetry",
        "level=TIMESTAMPS",
        "rate=0",  # only requests that come with a traceparent
        "count=-1",
        f"opentelemetry,url={url}",
        "opentelemetry,resource=service.name=triton",
        "opentelemetry,bsp_schedule_delay=500",
    ]
    return [f"--trace-config={setting}" for setting in settings]


def _environment(runtime: TritonRuntime, options: TritonServerOptions, base: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in base.items() if not name.startswith(_DROPPED_PREFIXES)}
    path = f"{runtime.folder / 'bin'}:{base.get('PATH', '/usr/bin:/bin')}"
    environment = {
        **kept,
        "PATH": path,  # the stub takes the packages of the first python3 on it
        "LD_LIBRARY_PATH": runtime.library_path,
        "OPENBLAS_NUM_THREADS": "1",  # numpy only carries tensors here; its thread pool costs memory
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    if options.traces_url:
        environment["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] = options.traces_url
    return environment
