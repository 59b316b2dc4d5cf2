"""OpenAI fails, Anthropic answers: `mycel ask` on a whole mesh, before fakes of both on the wire."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from services.mesh.control import ControlClient, ControlError
from services.mesh.started import StartedMesh, started_mesh
from tests.e2e.meshes import mesh_folder, mycel, needs_setup, settings
from tests.fakes import anthropic_wire, openai_server
from tests.fakes.wire_server import Reply, WireServer, json_reply, wire_server

ANSWER = "the other one answers"
CANARY = "sk-canary-0123456789abcdef0123456789abcdef"
MESH = """
providers:
  local: {{kind: triton}}
  openai: {{kind: openai, base_url: "{openai}/v1"}}
  anthropic: {{kind: anthropic, base_url: "{anthropic}"}}
models:
  tiny: {{provider: local, gguf: tiny.gguf, context: 1024}}
  gpt-4o-mini: {{provider: openai}}
  claude-haiku-4-5: {{provider: anthropic}}
routes: {{auto: {{low: [gpt-4o-mini, claude-haiku-4-5]}}}}
reliability: {{breaker: {{failures: 1000}}}}
"""


@dataclass(frozen=True)
class Mesh:
    """A running mesh, and the providers behind it."""

    started: StartedMesh
    environment: dict[str, str]
    logs: Path
    openai: WireServer
    anthropic: WireServer

    async def ask(self, *arguments: str) -> dict[str, Any]:
        result = await asyncio.to_thread(mycel, "ask", *arguments, "--json", environment=self.environment)
        assert result.returncode == 0, result.stderr
        told: dict[str, Any] = json.loads(result.stdout)
        return told


@pytest.fixture
async def mesh() -> AsyncIterator[Mesh]:
    needs_setup()
    async with wire_server() as openai, wire_server(anthropic_wire.say(ANSWER)) as anthropic:
        openai.replies = [json_reply(500, {"error": {"message": f"broken, {CANARY}", "type": "server_error"}})]
        with mesh_folder(MESH.format(openai=openai.url, anthropic=anthropic.url)) as folder:
            environment = settings(folder, OPENAI_API_KEY=CANARY, ANTHROPIC_API_KEY=CANARY)
            with started_mesh(folder / "state", environment) as started:
                yield Mesh(started, environment, folder / "state" / "logs", openai, anthropic)


def spans(nodes: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for node in nodes:
        yield node
        yield from spans(node["children"])


def attempts(mesh: Mesh, trace_id: str, count: int) -> tuple[list[dict[str, Any]], str]:
    """Waits for the provider's spans of that many attempts; gives them, and the whole trace as text."""
    client = ControlClient(mesh.started.state.socket("control"))
    deadline = time.monotonic() + 15
    found: list[dict[str, Any]] = []
    trace: dict[str, Any] = {}
    while len(found) < count and time.monotonic() < deadline:
        with suppress(ControlError):  # nothing has arrived yet
            trace = client.trace(trace_id)
            found = [span for span in spans(trace["roots"]) if span["service"] == "mycel-provider"]
        time.sleep(0.05)
    return sorted(found, key=lambda span: float(span["offset_ms"])), json.dumps(trace)


async def test_anthropic_answers_when_openai_fails(mesh: Mesh) -> None:
    told = await mesh.ask("who answers?")
    assert (told["text"], told["model"], told["attempts"]) == (ANSWER, "claude-haiku-4-5", 2)
    assert (len(mesh.openai.received), len(mesh.anthropic.received)) == (1, 1)
    tried, trace = await asyncio.to_thread(attempts, mesh, told["trace_id"], 2)
    assert [span["attributes"]["gen_ai.request.model"] for span in tried] == ["gpt-4o-mini", "claude-haiku-4-5"]
    assert ["error" in span for span in tried] == [True, False]
    shown = await asyncio.to_thread(mycel, "ask", "and now?", environment=mesh.environment)
    assert shown.stdout.strip() == ANSWER
    assert "claude-haiku-4-5 (anthropic) · 2 attempts" in shown.stderr
    logs = "".join(path.read_text(errors="replace") for path in mesh.logs.glob("*"))
    assert "gpt-4o-mini failed" in logs
    for place in (trace, shown.stdout + shown.stderr, logs, "\n".join(mesh.started.output)):
        assert CANARY not in place


async def test_anthropic_carries_on_when_openai_dies(mesh: Mesh) -> None:
    events = [f"data: {json.dumps(event)}\n\n" for event in openai_server.text_events("one, ", "two, ")[:3]]
    mesh.openai.replies = [Reply(content_type="text/event-stream", parts=events, whole=False)]
    mesh.anthropic.replies = [anthropic_wire.say("three")]
    told = await mesh.ask("count")
    assert (told["text"], told["model"], told["attempts"]) == ("one, two, three", "claude-haiku-4-5", 2)
    sent = json.dumps(mesh.anthropic.received[0].body["messages"])
    assert "one, two," in sent
