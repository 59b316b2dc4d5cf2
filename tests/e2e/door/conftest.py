"""One mesh for all tests at the door: everything real, with two tiny models whose answers are known."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from services.mesh.started import started_mesh
from tests.e2e.door.door import Door
from tests.e2e.meshes import mesh_folder, needs_setup, settings
from tests.fakes.tiny_gguf import build_tiny_gguf

MESH = """
providers: {local: {kind: triton}}
models:
  tiny: {provider: local, gguf: tiny.gguf, context: 4096, description: says one sentence}
  endless: {provider: local, gguf: endless.gguf, context: 32768, slots: 2, description: never stops by itself}
routes: {auto: {low: [tiny], medium: [tiny], high: [tiny]}}
"""


@pytest.fixture(scope="session")
def door() -> Iterator[Door]:
    needs_setup()
    with mesh_folder(MESH) as folder:
        answer = build_tiny_gguf(folder / "tiny.gguf").answer
        build_tiny_gguf(folder / "endless.gguf", endless=True)
        with started_mesh(folder / "state", settings(folder)) as mesh:
            running = Door(mesh.state.ingress, answer)
            # Ready means that the door is open; the models may still be loading.
            asyncio.run(running.works())
            yield running
