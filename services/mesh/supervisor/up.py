"""`mycel up`: the whole mesh in the foreground."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict
from importlib import metadata
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, Final

from services.common.logs import JsonFormatter
from services.common.server import wait_for_stop_signal
from services.common.triton_server import TritonSetupError
from services.mesh.client import DEVELOPMENT_KEY
from services.mesh.control import ControlServer
from services.mesh.envoy import EnvoyError
from services.mesh.http_server import http_server
from services.mesh.otlp.receiver import OtlpReceiver, otlp_receiver
from services.mesh.otlp.store import TraceStore
from services.mesh.status import ModelStatus, mesh_models
from services.mesh.supervisor import keeper
from services.mesh.supervisor.errors import UpError
from services.mesh.supervisor.logs import keep_bounded
from services.mesh.supervisor.mesh import Mesh
from services.mesh.supervisor.plan import Plan
from services.mesh.supervisor.runner import Runner, Say
from services.mesh.supervisor.settings import UpSettings, free_ports, state_folder
from services.mesh.supervisor.state import RunState, clear_remains, exclusive, remove_state, run_folder, write_state

_LOG: Final = logging.getLogger(__name__)
_KEEPER_SECONDS: Final = 3.0
_LOG_BYTES: Final = 4 * 1024 * 1024


async def up(environment: Mapping[str, str], say: Say) -> None:
    """Runs the mesh until SIGINT or SIGTERM.

    Args:
        environment: the settings, as `os.environ` has them.
        say: tells a person what happens, a line at a time.

    Raises:
        UpError: it cannot start, or could not; everything that was started is stopped.
    """
    begun = time.monotonic()
    stop = asyncio.create_task(wait_for_stop_signal())
    home = state_folder()
    with exclusive(home), run_folder() as run_dir:
        clear_remains(home)
        settings = UpSettings.from_environment(environment, home)
        _log_to(home / "logs" / "mycel.log")
        async with otlp_receiver(TraceStore(), settings.collector) as receiver:
            plan = Plan(settings, _state(settings, run_dir, receiver), environment)
            write_state(home, plan.state)
            try:
                with _keeper(plan.state):
                    await _run(plan, receiver, say, begun, stop)
            finally:
                remove_state(home)
    say("stopped")


async def _run(plan: Plan, receiver: OtlpReceiver, say: Say, begun: float, stop: asyncio.Task[None]) -> None:
    try:
        parts = plan.parts()
    except (EnvoyError, TritonSetupError, OSError) as error:
        raise UpError(str(error)) from error
    mesh = Mesh([Runner(part, say) for part in parts], plan.admin, say)
    async with _control(plan, mesh, receiver), _background(keep_bounded(part.log for part in parts)):
        try:
            if await _unless(stop, mesh.start()):
                say(ready_text(plan.settings, time.monotonic() - begun, await mesh_models(plan.state)))
                await _unless(stop, mesh.keep())
            say("stopping …")
        finally:
            await mesh.stop()


async def _unless(stop: asyncio.Task[None], work: Coroutine[Any, Any, None]) -> bool:
    """Runs `work` to its end, unless the mesh is to be stopped first; tells whether it came to its end."""
    task = asyncio.create_task(work)
    await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        task.result()
        return True
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return False


def ready_text(settings: UpSettings, seconds: float, models: Sequence[ModelStatus]) -> str:
    """Gives what a person reads when the mesh is ready: where it is, which models answer, one request that works."""
    url = f"http://{settings.ingress}"
    key = "YOUR_KEY" if settings.mesh.tenants else DEVELOPMENT_KEY
    on = ", ".join(model.name for model in models if model.on) or "none"
    off = "".join(f"\n  off: {model.name} ({model.why})" for model in models if not model.on)
    return (
        f"\nMycel is ready at {url} after {seconds:.1f} s. Models: {on}.{off}\n\n"
        f"  curl {url}/v1/chat/completions -H 'authorization: Bearer {key}' \\\n"
        f"    -H 'content-type: application/json' \\\n"
        f'    -d \'{{"model": "auto", "messages": [{{"role": "user", "content": "What is a semantic cache?"}}]}}\'\n\n'
        "Ctrl-C stops it.\n"
    )


def _state(settings: UpSettings, run_dir: Path, receiver: OtlpReceiver) -> RunState:
    run_id = secrets.token_hex(6)
    http = grpc = metrics = ""
    if settings.triton:
        http, grpc, metrics = (f"127.0.0.1:{port}" for port in free_ports(3))
    return RunState(
        run_id=run_id,
        version=metadata.version("mycel"),
        pid=os.getpid(),
        ingress=str(settings.ingress),
        run_dir=str(run_dir),
        config=str(settings.config_path),
        shm_prefix=f"mycel{run_id}",
        otlp_grpc=receiver.grpc,
        otlp_http=receiver.http,
        triton_grpc=settings.external_triton or grpc,
        triton_http=http,
        triton_metrics=metrics,
    )


def _log_to(path: Path) -> None:
    """Keeps the supervisor's own log out of the terminal."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = RotatingFileHandler(path, maxBytes=_LOG_BYTES, backupCount=1, encoding="utf-8")
    handler.setFormatter(JsonFormatter("mycel"))
    logging.basicConfig(level="INFO", handlers=[handler], force=True)


@contextmanager
def _keeper(state: RunState) -> Iterator[None]:
    """Starts the keeper; see its module. It ends when this process does, or when the block is left."""
    command = [sys.executable, "-I", "-S", str(keeper.__file__), state.run_id, state.run_dir, state.shm_prefix]
    nowhere = subprocess.DEVNULL
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=nowhere, stderr=nowhere, start_new_session=True, cwd="/"
    )
    try:
        yield
    finally:
        # By now it finds nothing to do, and ends at once.
        try:
            process.communicate(timeout=_KEEPER_SECONDS)
        except subprocess.TimeoutExpired:
            _LOG.warning("the keeper was still at work and was killed")
            process.kill()
            process.communicate()


@asynccontextmanager
async def _control(plan: Plan, mesh: Mesh, receiver: OtlpReceiver) -> AsyncIterator[None]:
    def state() -> Mapping[str, object]:
        parts = [
            {"name": runner.part.name, "address": runner.part.address, "log": str(runner.part.log)}
            | asdict(runner.state)
            for runner in mesh.runners
        ]
        return {"version": plan.state.version, "ingress": plan.state.ingress, "parts": parts}

    server = ControlServer(receiver.store, state)
    async with http_server(f"unix:{plan.state.socket('control')}", server.handle):
        yield


@asynccontextmanager
async def _background(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
