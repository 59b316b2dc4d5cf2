"""A part is started, watched, started again and stopped: with real processes."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from services.mesh.supervisor.errors import UpError
from services.mesh.supervisor.part import Part
from services.mesh.supervisor.runner import Runner

READY = "open('ready', 'w').close(); import time; time.sleep(600)"
"""A program that is ready when it has made a file."""

STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {READY}"
WITH_CHILD = (
    f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); {READY}"
)


def part(folder: Path, program: str, ailing: Callable[[int], str] | None = None) -> Part:
    async def ready() -> bool:
        return (folder / "ready").exists()

    return Part(
        name="part",
        command=(sys.executable, "-c", f"import os; os.chdir({str(folder)!r}); {program}"),
        environment=dict(os.environ),
        log=folder / "part.log",
        ready=ready,
        address="",
        before_start=lambda: (folder / "ready").unlink(missing_ok=True),
        ailing=ailing,
    )


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - the state is another process's
            await asyncio.sleep(0.02)


async def test_a_part_that_dies_is_started_again(tmp_path: Path) -> None:
    said: list[str] = []
    runner = Runner(part(tmp_path, READY), said.append)
    await runner.start()
    first = runner.state.pid
    keeping = asyncio.create_task(runner.keep())
    os.kill(first, 9)
    await until(lambda: runner.state.restarts == 1 and runner.state.state == "ready")
    assert runner.state.pid != first
    assert said[0] == "part is started again: it ended (killed by SIGKILL)"
    assert "ready again" in said[1]
    keeping.cancel()
    await runner.stop(5)
    assert not psutil.pid_exists(runner.state.pid or first)


async def test_a_part_that_ails_is_replaced(tmp_path: Path) -> None:
    sick: set[int] = set()
    runner = Runner(part(tmp_path, READY, lambda pid: "it is sick" if pid in sick else ""), lambda _: None)
    await runner.start()
    sick.add(runner.state.pid)
    keeping = asyncio.create_task(runner.keep())
    await until(lambda: runner.state.restarts == 1 and runner.state.state == "ready")
    assert runner.state.trouble == "it is sick"
    keeping.cancel()
    await runner.stop(5)


async def test_a_part_that_does_not_start_tells_its_last_words(tmp_path: Path) -> None:
    program = "import sys; print('one'); sys.exit('cache: no such folder')"
    runner = Runner(part(tmp_path, program), lambda _: None)
    with pytest.raises(UpError, match=r"part did not start \(exit code 1\): cache: no such folder \(log: "):
        await runner.start()


async def test_a_program_that_is_not_there_is_told(tmp_path: Path) -> None:
    missing = Part("part", (str(tmp_path / "none"),), {}, tmp_path / "part.log", lambda: asyncio.sleep(0, True), "")
    with pytest.raises(UpError, match="cannot be started"):
        await Runner(missing, lambda _: None).start()


async def test_a_part_that_does_not_stop_is_killed_with_what_it_started(tmp_path: Path) -> None:
    said: list[str] = []
    for program in (STUBBORN, WITH_CHILD):
        runner = Runner(part(tmp_path, program), said.append)
        await runner.start()
        processes = [psutil.Process(runner.state.pid), *psutil.Process(runner.state.pid).children()]
        await runner.stop(0.5)
        await until(lambda left=processes: not any(one.is_running() and one.status() != "zombie" for one in left))
    assert said == ["part did not stop in 0 s and was killed"]
