"""`mycel demo`: starts a mesh, shows every level on real input, checks each answer, and stops the mesh."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import grpc
from mycel.cache.v1.cache_service_pb2 import GetStatsRequest
from mycel.cache.v1.cache_service_pb2_grpc import CacheServiceStub
from openai import OpenAIError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from services.common.channels import open_channel
from services.common.config.loader import DEFAULT
from services.common.telemetry import UNSAMPLED, Telemetry
from services.mesh.client import DEVELOPMENT_KEY, Caller, explain
from services.mesh.commands.trace import show_trace
from services.mesh.control import ControlClient, ControlError
from services.mesh.demo.calls import Asked
from services.mesh.demo.grpc_web import GrpcWebError
from services.mesh.demo.script import SCENES, Scene
from services.mesh.otlp.tree import trace_json
from services.mesh.started import StartedMesh, StartedMeshError, started_mesh, without_keys
from services.mesh.supervisor.state import RunState

_STORED_SECONDS: Final = 5.0
_TRACED_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.05
_TRACED_PARTS: Final = frozenset({"envoy-ingress", "mycel-router", "envoy-mesh", "mycel-cache", "mycel-inference"})
"""The parts whose spans a miss must have, besides Triton's own."""


def add(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Starts a mesh on a state folder of its own and on a free port, with the local model only; asks it over gRPC, "
        "gRPC-Web and the OpenAI SDK; exits 1 when an answer is not what it should be."
    )


def run(_arguments: argparse.Namespace) -> int:
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print("Starting a mesh of the demo's own …")
    with tempfile.TemporaryDirectory(prefix="mycel-demo-") as folder:
        try:
            with started_mesh(Path(folder), {**without_keys(), "MYCEL_CONFIG": str(DEFAULT)}) as mesh:
                problems = _show(mesh, console)
                console.print(f"\nStopped in {mesh.stop():.1f} s.")
        except StartedMeshError as error:
            print(f"mycel demo: {error}", file=sys.stderr)
            return 1
    for problem in problems:
        print(f"mycel demo: {problem}", file=sys.stderr)
    return 1 if problems else 0


def _show(mesh: StartedMesh, console: Console) -> list[str]:
    """Plays every scene and prints what came of it; gives what was not as it should be."""
    console.print(f"Ready at http://{mesh.state.ingress} after {mesh.ready_seconds:.1f} s.\n")
    asked, problems = _play(mesh.state)
    console.print(_table(asked))
    if asked:
        console.print(f"\n[bold]{asked[0][0].prompt}[/bold]\n{asked[0][1].text}\n")
        trace = _trace_of(mesh.state, asked[0][1].trace_id)
        show_trace(trace, console)
        missing = sorted(_TRACED_PARTS - set(trace["services"]))
        if missing:
            problems.append(f"the first question's trace has no spans of {', '.join(missing)}")
    return problems


def _play(state: RunState) -> tuple[list[tuple[Scene, Asked, str]], list[str]]:
    who = Caller(state.ingress, DEVELOPMENT_KEY)
    played: list[tuple[Scene, Asked, str]] = []
    problems: list[str] = []
    misses = 0
    for scene in SCENES:
        try:
            asked = scene.door(who, scene.prompt)
        except grpc.aio.AioRpcError as error:
            problems.append(f"{scene.title}: {explain(error, who.ingress)}")
            continue
        except (OpenAIError, GrpcWebError) as error:
            problems.append(f"{scene.title}: {error}")
            continue
        problem = scene.problem(asked, played[0][1] if played else asked)
        played.append((scene, asked, problem))
        if problem:
            problems.append(f"{scene.title}: {problem}")
        if asked.cache == "miss":
            misses += 1
            asyncio.run(_wait_stored(state, misses))
    return played, problems


async def _wait_stored(state: RunState, entries: int) -> None:
    """Answers are stored off the caller's path: waits until the last one is in the cache, or gives up."""
    deadline = time.monotonic() + _STORED_SECONDS
    async with open_channel(f"unix:{state.socket('cache')}", Telemetry.disabled()) as channel:
        stub = CacheServiceStub(channel)
        while time.monotonic() < deadline:
            stats = await stub.GetStats(GetStatsRequest(), timeout=_STORED_SECONDS, metadata=UNSAMPLED)
            if stats.entries >= entries:
                return
            await asyncio.sleep(_POLL_SECONDS)


def _trace_of(state: RunState, trace_id: str) -> dict[str, Any]:
    """Gives a trace when every part has sent its spans, or what there is after a while."""
    client = ControlClient(state.socket("control"))
    deadline = time.monotonic() + _TRACED_SECONDS
    trace = trace_json(trace_id, [])
    while time.monotonic() < deadline:
        try:
            trace = client.trace(trace_id)
        except ControlError:
            pass  # not a span has arrived yet
        else:
            if _TRACED_PARTS | {"triton"} <= set(trace["services"]):
                break
        time.sleep(_POLL_SECONDS)
    return trace


def _table(played: list[tuple[Scene, Asked, str]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("question", "by", "cache", "tier", "model"):
        table.add_column(heading, no_wrap=True)
    table.add_column("ms", justify="right")
    table.add_column("trace", no_wrap=True)
    table.add_column("")
    for scene, asked, problem in played:
        verdict = Text(problem, style="bold red") if problem else Text("as it should be", style="green")
        told = (asked.cache, asked.tier, asked.model, f"{asked.milliseconds:.1f}", asked.trace_id)
        table.add_row(scene.title, asked.via, *told, verdict)
    return table
