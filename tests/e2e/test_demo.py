"""`mycel demo`, as `make demo` runs it: every answer as it should be, or a non-zero exit."""

from __future__ import annotations

import os

import pytest

from services.common.config import load_config
from services.common.config.loader import DEFAULT
from services.common.config.schema import gguf_path
from services.mesh.demo.script import SCENES
from services.mesh.started import without_keys
from tests.e2e.meshes import mycel, needs_setup


@pytest.mark.timeout(180)
def test_the_demo_shows_every_level_and_ends_well() -> None:
    needs_setup()
    weights = [gguf_path(model, DEFAULT.parent) for model in load_config(DEFAULT).mesh.local_models().values()]
    missing = [str(path) for path in weights if path and not path.is_file()]
    if missing and os.environ.get("CI") != "true":
        pytest.skip(f"no weights at {', '.join(missing)}")
    result = mycel("demo", environment=without_keys(), seconds=150)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.count("as it should be") == len(SCENES)
    assert "InferRequest" in result.stdout
    assert "Stopped in " in result.stdout
