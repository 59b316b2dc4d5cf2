"""The health checks of compose.yaml, run against the real thing."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import yaml

from services.common.server import running_server
from services.common.telemetry import Telemetry
from tests.integration.envoy.door import running_envoy

ROOT = Path(__file__).resolve().parents[3]
SERVICES = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]


async def exit_status(*command: str) -> int:
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    async with asyncio.timeout(30):
        return await process.wait()


async def test_envoys() -> None:
    kind, *command, script = SERVICES["envoy"]["healthcheck"]["test"]
    assert kind == "CMD"
    async with running_envoy() as door:
        assert await exit_status(*command, script.replace("8080", str(door.port))) == 0
        port = door.port
    assert await exit_status(*command, script.replace("8080", str(port))) != 0


async def test_the_services() -> None:
    kind, python, *module, target = SERVICES["router"]["healthcheck"]["test"]
    assert (kind, python) == ("CMD", "python")
    async with running_server("127.0.0.1:0", [], Telemetry.disabled(), grace=0) as server:
        command = [sys.executable, *module, target.replace("127.0.0.1:50051", server.address)]
        assert await exit_status(*command) == 0
        await server.set_serving(False)
        assert await exit_status(*command) == 1
    assert await exit_status(*command) == 1
    assert await exit_status(sys.executable, *module) == 2
