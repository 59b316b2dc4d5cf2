"""Runs a real tritonserver for a test, on free loopback ports."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.common.triton_server import (
    LlamaModel,
    TritonPorts,
    TritonRuntime,
    TritonServerOptions,
    TritonSetupError,
    remove_shared_memory,
    server_command,
    write_backends,
    write_model_repository,
)

_REPOSITORY = Path(__file__).resolve().parents[2]
_READY_SECONDS = 60.0
_STOP_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class RunningTriton:
    """A server that answers."""

    process: subprocess.Popen[bytes]
    ports: TritonPorts
    shared_memory_prefix: str
    log: Path

    @property
    def address(self) -> str:
        """Where its gRPC service listens."""
        return f"127.0.0.1:{self.ports.grpc}"

    def cancelled_after(self, model: str) -> list[int]:
        """How many tokens each cancelled answer of a model had got to."""
        pattern = rf"llamacpp: {re.escape(model)}: cancelled after (\d+) tokens"
        return [int(tokens) for tokens in re.findall(pattern, self.log.read_text())]

    def leftovers(self) -> list[str]:
        """Its files in shared memory."""
        return [path.name for path in Path("/dev/shm").glob(f"{self.shared_memory_prefix}*")]

    def stop(self) -> int:
        """Asks it to stop and gives the exit status."""
        self.process.terminate()
        return self.process.wait(_STOP_SECONDS)


def triton_runtime() -> TritonRuntime:
    """The installed runtime; without one the test is skipped, or fails where CI=true."""
    folder = Path(os.environ.get("MYCEL_RUNTIME") or _REPOSITORY / ".runtime") / "triton"
    try:
        return TritonRuntime.locate(folder)
    except TritonSetupError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))


@contextmanager
def running_triton(folder: Path, models: Sequence[LlamaModel], *, traces_url: str = "") -> Iterator[RunningTriton]:
    """Starts a server with these models, waits until it is ready, and stops it on leaving."""
    runtime = triton_runtime()
    write_backends(folder / "backends", runtime)
    write_model_repository(folder / "models", models)
    options = TritonServerOptions(
        repository=folder / "models",
        backends=folder / "backends",
        models=tuple(model.name for model in models),
        ports=TritonPorts(*free_ports(3)),
        shared_memory_prefix=f"myceltest{uuid.uuid4().hex[:12]}",
        traces_url=traces_url,
    )
    arguments, environment = server_command(runtime, options, os.environ)
    log = folder / "triton.log"
    with log.open("wb") as output:
        process = subprocess.Popen(arguments, env=environment, stdout=output, stderr=output, start_new_session=True)
    triton = RunningTriton(process, options.ports, options.shared_memory_prefix, log)
    try:
        _wait_until_ready(triton)
        yield triton
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # a killed server's Python processes linger
        remove_shared_memory(options.shared_memory_prefix)


def free_ports(count: int) -> list[int]:
    """Different TCP ports of loopback that are free at the moment."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


def _wait_until_ready(triton: RunningTriton) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    url = f"http://127.0.0.1:{triton.ports.http}/v2/health/live"
    while time.monotonic() < deadline:
        if triton.process.poll() is not None:
            pytest.fail(f"tritonserver ended: {triton.log.read_text()[-2000:]}")
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.02)
    pytest.fail(f"tritonserver is not ready: {triton.log.read_text()[-2000:]}")
