"""The keeper ends what a killed supervisor leaves: with real processes."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from pathlib import Path

import psutil

from services.mesh.supervisor import keeper

SLEEP = "import time; print(flush=True); time.sleep(600)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEP}"


def marked(run_id: str, program: str) -> subprocess.Popen[bytes]:
    """A process of the run in a session of its own; it has begun when this returns."""
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, keeper.RUN_ID_VARIABLE: run_id},
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    return process


def test_every_process_of_the_run_ends_and_no_other() -> None:
    run_id = secrets.token_hex(6)
    spawning = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {STUBBORN!r}]).pid; {SLEEP}"
    ours = [marked(run_id, SLEEP), marked(run_id, spawning)]
    other = marked(secrets.token_hex(6), SLEEP)
    found = keeper.processes_of(run_id)
    assert {process.pid for process in ours} <= set(found)
    keeper.end_all(run_id, polite=0.5)
    for process in ours:
        process.wait(10)
    assert keeper.processes_of(run_id) == []
    assert psutil.pid_exists(other.pid)
    other.kill()
    other.wait(10)


def test_it_acts_when_the_pipe_closes_and_removes_what_is_left(tmp_path: Path) -> None:
    run_id = secrets.token_hex(6)
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    (run_dir / "router.sock").touch()
    shared = Path("/dev/shm") / f"myceltest{run_id}-1"
    shared.touch()
    victim = marked(run_id, SLEEP)
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", keeper.__file__, run_id, str(run_dir), f"myceltest{run_id}"], stdin=subprocess.PIPE
    )
    process.communicate(timeout=20)
    assert victim.wait(10) == -15
    assert not run_dir.exists()
    assert not shared.exists()
