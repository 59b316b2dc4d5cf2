"""One mesh for the tests of this folder that leave it as it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from services.mesh.started import StartedMesh, started_mesh
from tests.e2e.meshes import mesh_folder, needs_setup, settings


@dataclass(frozen=True)
class Mesh:
    """A running mesh and the environment of commands that are to find it."""

    started: StartedMesh
    environment: dict[str, str]


@pytest.fixture(scope="session")
def mesh() -> Iterator[Mesh]:
    needs_setup()
    with mesh_folder() as folder:
        environment = settings(folder)
        with started_mesh(folder / "state", environment) as started:
            yield Mesh(started, environment)
