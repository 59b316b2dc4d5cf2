"""Meshes for end-to-end tests: everything real, with a tiny model whose answer is known."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from services.common.settings import runtime
from services.mesh.started import without_keys
from services.mesh.supervisor.keeper import processes_of
from services.mesh.supervisor.state import RunState
from tests.fakes.tiny_gguf import build_tiny_gguf

MESH = """
providers:
  local: {kind: triton}
  openai: {kind: openai}
models:
  tiny: {provider: local, gguf: tiny.gguf, context: 1024, description: says one sentence}
  gpt: {provider: openai}
routes: {auto: {low: [tiny], medium: [tiny], high: [tiny]}}
"""


def needs_setup() -> None:
    """Skips when `make setup` has not run; in CI it must have."""
    parts = {"triton": "runtime.json", "minilm": "manifest.json"}
    missing = [name for name, file in parts.items() if not (runtime() / name / file).is_file()]
    if missing and os.environ.get("CI") != "true":
        pytest.skip(f"not set up ({', '.join(missing)}): run `make setup`")


@contextmanager
def mesh_folder(text: str = MESH) -> Iterator[Path]:
    """A folder with a mesh.yaml and the tiny model. Not pytest's: the paths of Unix sockets are limited."""
    with tempfile.TemporaryDirectory(prefix="mycel-e2e-") as name:
        folder = Path(name)
        build_tiny_gguf(folder / "tiny.gguf")
        (folder / "mesh.yaml").write_text(text)
        yield folder


def settings(folder: Path, **more: str) -> dict[str, str]:
    """The environment of a mesh on that folder."""
    own = {"MYCEL_CONFIG": str(folder / "mesh.yaml"), "MYCEL_HOME": str(folder / "state")}
    return {**without_keys(), **own, **more}


def mycel(*arguments: str, environment: Mapping[str, str], seconds: float = 60) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "services.mesh", *arguments],
        env=dict(environment),
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def leftovers(state: RunState) -> list[str]:
    """What a mesh that has ended left: processes, sockets, shared memory."""
    found = [f"process {pid}" for pid in processes_of(state.run_id)]
    found += [str(path) for path in Path("/dev/shm").glob(f"{state.shm_prefix}*")]
    return found + ([state.run_dir] if Path(state.run_dir).exists() else [])


def wait_gone(state: RunState, seconds: float = 20) -> list[str]:
    """Waits until nothing is left; gives what still is."""
    deadline = time.monotonic() + seconds
    while (left := leftovers(state)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left
