"""A mesh of one's own for a while: `mycel up` as a process. For the demo, the benchmarks and tests."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from services.mesh.supervisor.state import RunState, read_state

READY_MARK: Final = "Mycel is ready at "
_STOP_SECONDS: Final = 15.0


class StartedMeshError(Exception):
    """`mycel up` did not get ready, or did not stop; the message says what it printed."""


@dataclass(slots=True)
class StartedMesh:
    """A mesh that is ready."""

    state: RunState
    process: subprocess.Popen[str]
    ready_seconds: float
    """From the start of the process to the ready line."""
    output: list[str] = field(default_factory=list)
    """The lines that it has printed so far."""

    def stop(self, number: signal.Signals = signal.SIGINT) -> float:
        """Stops it, and gives the seconds that it took.

        Raises:
            StartedMeshError: it did not end in time.
        """
        begun = time.monotonic()
        self.process.send_signal(number)
        try:
            self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise StartedMeshError(f"the mesh did not stop within {_STOP_SECONDS:.0f} s") from None
        return time.monotonic() - begun


@contextmanager
def started_mesh(home: Path, settings: Mapping[str, str], *, seconds: float = 90.0) -> Iterator[StartedMesh]:
    """Starts a mesh on a free port unless MYCEL_INGRESS is set, and stops it in the end.

    Args:
        home: its state folder.
        settings: environment variables; they are all that it gets.
        seconds: how long it may take to get ready.

    Raises:
        StartedMeshError: it did not get ready.
    """
    environment = {"MYCEL_INGRESS": "127.0.0.1:0", **settings, "MYCEL_HOME": str(home)}
    begun = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "services.mesh", "up"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    output: list[str] = []
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    reader = threading.Thread(target=_read, args=(process, output, lines), daemon=True)
    reader.start()
    try:
        _wait_ready(lines, output, begun + seconds)
        state = read_state(home)
        if state is None:
            raise StartedMeshError(f"the mesh left no run.json in {home}")
        yield StartedMesh(state, process, time.monotonic() - begun, output)
    finally:
        _end(process)
        reader.join(_STOP_SECONDS)
        if process.stdout is not None:
            process.stdout.close()


def without_keys(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Gives an environment without settings of the caller's own mesh, provider keys or a trace collector."""
    return {
        name: value
        for name, value in environment.items()
        if name == "MYCEL_RUNTIME"
        or not (name.startswith(("MYCEL_", "OTEL_")) or name.endswith(("_API_KEY", "_API_KEY_FILE")))
    }


def _read(process: subprocess.Popen[str], output: list[str], lines: queue.SimpleQueue[str | None]) -> None:
    for line in process.stdout or ():
        output.append(line.rstrip("\n"))
        lines.put(output[-1])
    lines.put(None)


def _wait_ready(lines: queue.SimpleQueue[str | None], output: list[str], deadline: float) -> None:
    while True:
        try:
            line = lines.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise StartedMeshError("not ready in time: " + " / ".join(output[-5:])) from None
        if line is None:
            raise StartedMeshError(" / ".join(output[-5:]) or "it printed nothing")
        if READY_MARK in line:
            return


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(_STOP_SECONDS)
