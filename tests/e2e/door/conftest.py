"""One mesh for all tests at the door: everything real, with two tiny models whose answers are known."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.common.settings import runtime
from services.mesh.started import started_mesh, without_keys
from tests.e2e.door.door import Door
from tests.fakes.tiny_gguf import build_tiny_gguf

MESH = """
providers: {local: {kind: triton}}
models:
  tiny: {provider: local, gguf: tiny.gguf, context: 4096, description: says one sentence}
  endless: {provider: local, gguf: endless.gguf, context: 32768, slots: 2, description: never stops by itself}
routes: {auto: {low: [tiny], medium: [tiny], high: [tiny]}}
"""


def _missing() -> str:
    """Says what set-up has not made; nothing when all is there."""
    parts = {"triton": "runtime.json", "minilm": "manifest.json"}
    missing = [name for name, file in parts.items() if not (runtime() / name / file).is_file()]
    return f"not set up ({', '.join(missing)}): run `make setup`" if missing else ""


@pytest.fixture(scope="session")
def door() -> Iterator[Door]:
    missing = _missing()
    if missing and os.environ.get("CI") != "true":
        pytest.skip(missing)
    # Not pytest's folder: the paths of Unix sockets are limited.
    with tempfile.TemporaryDirectory(prefix="mycel-door-") as name:
        folder = Path(name)
        tiny = build_tiny_gguf(folder / "tiny.gguf")
        build_tiny_gguf(folder / "endless.gguf", endless=True)
        (folder / "mesh.yaml").write_text(MESH)
        settings = {**without_keys(), "MYCEL_CONFIG": str(folder / "mesh.yaml")}
        with started_mesh(folder / "state", settings) as mesh:
            running = Door(mesh.state.ingress, tiny.answer)
            # Ready means that the door is open; the models may still be loading.
            asyncio.run(running.works())
            yield running
