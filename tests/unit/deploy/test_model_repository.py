"""What a container runs before Triton: the model repository of a mesh.yaml."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from services.common.triton_server.__main__ import main

MESH = """
providers: {local: {kind: triton}, openai: {kind: openai}}
models:
  small: {provider: local, gguf: weights/small.gguf, context: 512, slots: 2}
  hosted: {provider: openai}
routes: {auto: {low: [small], medium: [hosted], high: [hosted]}}
"""


@pytest.fixture
def mesh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "mesh.yaml").write_text(MESH)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "small.gguf").write_bytes(b"GGUF and more")
    monkeypatch.setenv("MYCEL_CONFIG", str(tmp_path / "mesh.yaml"))
    return tmp_path


def test_the_local_models_are_written(mesh: Path) -> None:
    assert main([str(mesh / "repository")]) == 0
    (model,) = (mesh / "repository").iterdir()
    assert model.name == "small"
    settings = json.loads((model / "1" / "model.json").read_text())
    assert settings["model"] == str(mesh / "weights" / "small.gguf")
    assert (settings["context_tokens"], settings["slots"]) == (512, 2)
    assert 'backend: "llamacpp"' in (model / "config.pbtxt").read_text()


def test_a_folder_that_cannot_be_removed_is_filled(mesh: Path) -> None:
    """In a container the folder is where a volume is mounted."""
    (mesh / "repository").mkdir()
    assert main([str(mesh / "repository")]) == 0
    assert main([str(mesh / "repository")]) == 0, "and once more, over the first"


@pytest.mark.parametrize(
    ("content", "said"), [(None, "cannot be read"), (b"something else", "is not a GGUF file"), (b"", "not a GGUF")]
)
def test_a_wrong_file_is_one_line(
    mesh: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, said: str
) -> None:
    file = mesh / "weights" / "small.gguf"
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    assert main([str(mesh / "repository")]) == 2
    error = capsys.readouterr().err
    assert "models.small.gguf" in error
    assert said in error
    assert error.count("\n") == 1


def test_a_model_without_a_file_is_one_line(mesh: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (mesh / "mesh.yaml").write_text(MESH.replace("gguf: weights/small.gguf, ", ""))
    assert main([str(mesh / "repository")]) == 2
    assert "models.small.gguf" in capsys.readouterr().err


def test_it_wants_one_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "FOLDER" in capsys.readouterr().err
