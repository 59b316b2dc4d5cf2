"""`mycel models pull` from a real HTTP server that breaks off, lies or refuses, and from a file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from services.common.config.schema import ModelConfig
from services.mesh.cli import main
from tests.fakes.file_server import FileServer, file_server
from tests.fakes.tiny_gguf import build_tiny_gguf


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return build_tiny_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf").path.read_bytes()


@pytest.fixture
def server(model: bytes) -> Iterator[FileServer]:
    with file_server(model) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where pulled files go."""
    monkeypatch.setenv("MYCEL_HOME", str(tmp_path / "state"))
    for name in ("MYCEL_CONFIG", "HF_TOKEN", "HF_TOKEN_FILE", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "state" / "models"


def mycel_models(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["models", *arguments])
    return int(ended.value.code or 0)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Pulls what must be refused in one line; gives it."""
    assert mycel_models("pull", *arguments) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("mycel models pull: ")
    return line


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_an_address(server: FileServer, model: bytes, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mycel_models("pull", f"{server.url}/some/Tiny_Model.gguf?download=true", "--sha256", server.sha256) == 0
    assert (folder / "Tiny_Model.gguf").read_bytes() == model
    assert names(folder) == ["Tiny_Model.gguf"]
    said = capsys.readouterr().out
    assert server.sha256 in said
    (entry,) = yaml.safe_load(said.splitlines()[-1]).items()
    assert entry[0] == "tiny-model"
    assert ModelConfig.model_validate(entry[1]).gguf == str(folder / "Tiny_Model.gguf")
    assert ModelConfig.model_validate(entry[1]).context == 8192


def test_a_connection_that_breaks_is_gone_on_with(server: FileServer, model: bytes, folder: Path) -> None:
    server.breaks_after = [10_000, 20_000, 0]
    server.statuses = [0, 503]
    assert mycel_models("pull", f"{server.url}/tiny.gguf") == 0
    assert server.sent_from == [0, 10_000, 30_000, 30_000]
    assert (folder / "tiny.gguf").read_bytes() == model


def test_a_later_command_goes_on(
    server: FileServer, model: bytes, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.mesh.pull.download._FRUITLESS_GOES", 1)
    server.breaks_after = [10_000, 0]
    assert "the same command goes on" in refused(capsys, f"{server.url}/tiny.gguf")
    assert names(folder) == ["tiny.gguf.part", "tiny.gguf.part.json"]
    assert mycel_models("pull", f"{server.url}/tiny.gguf") == 0
    assert server.sent_from == [0, 10_000, 10_000]
    assert (folder / "tiny.gguf").read_bytes() == model


@pytest.mark.parametrize(("tag", "ranges"), [("", True), ('W/"weak"', True), ('"first"', False)])
def test_it_starts_over_when_the_server_gives_no_hold(
    server: FileServer, model: bytes, folder: Path, tag: str, ranges: bool
) -> None:
    server.breaks_after, server.tag, server.ranges = [10_000], tag, ranges
    assert mycel_models("pull", f"{server.url}/tiny.gguf") == 0
    assert server.sent_from == [0, 0]
    assert (folder / "tiny.gguf").read_bytes() == model


def test_it_starts_over_when_the_content_is_another(server: FileServer, model: bytes, folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "tiny.gguf.part").write_bytes(b"older content")
    facts = {"url": f"{server.url}/tiny.gguf", "tag": '"older"', "size": len(model), "sha256": ""}
    (folder / "tiny.gguf.part.json").write_text(json.dumps(facts))
    assert mycel_models("pull", f"{server.url}/tiny.gguf") == 0
    assert server.sent_from == [0]
    assert (folder / "tiny.gguf").read_bytes() == model


def test_a_name_on_the_hub(
    server: FileServer, model: bytes, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_TOKEN", "hf-canary")
    assert mycel_models("pull", "org/Repo-1.5@v2/sub/tiny.gguf") == 0
    assert (folder / "tiny.gguf").read_bytes() == model
    hub, content = server.keys
    assert hub == ("/org/Repo-1.5/resolve/v2/sub/tiny.gguf", "Bearer hf-canary")
    assert content == ("/content", ""), "the key went to another host"
    assert "hf-canary" not in "".join(capsys.readouterr())


def test_the_hubs_hash_is_checked(
    server: FileServer, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    server.hub_hash = "0" * 64
    assert "the hub says 000" in refused(capsys, "org/repo/tiny.gguf")
    assert names(folder) == []


def test_a_wrong_hash(server: FileServer, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, f"{server.url}/tiny.gguf", "--sha256", "1" * 64)
    assert "1" * 64 in said
    assert server.sha256 in said
    assert names(folder) == []


@pytest.mark.parametrize(("content", "said"), [(b"<html>", "is not a GGUF"), (None, "not a whole GGUF")])
def test_content_that_is_no_model(
    model: bytes, folder: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, said: str
) -> None:
    with file_server(content or model[:-4000]) as server:
        assert said in refused(capsys, f"{server.url}/tiny.gguf")
    assert names(folder) == []


@pytest.mark.parametrize(
    ("status", "said"), [(401, "HF_TOKEN"), (403, "terms"), (404, "no such file"), (400, "refuses (400)")]
)
def test_a_refusal_is_told(
    server: FileServer, folder: Path, capsys: pytest.CaptureFixture[str], status: int, said: str
) -> None:
    server.statuses = [status]
    assert said in refused(capsys, f"{server.url}/tiny.gguf")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("nowhere.gguf", "there is no such file"),
        ("./org/repo/x.gguf", "there is no such file"),
        ("ftp://example.org/x.gguf", "https://"),
        ("http://example.org/x.gguf", "--sha256"),
        ("https://example.org/", "file's name"),
        ("https://example.org/a%2f..%2f.gguf", "file's name"),
        ("org/repo/x.bin", ".gguf or .safetensors"),
    ],
)
def test_a_wrong_source(folder: Path, capsys: pytest.CaptureFixture[str], source: str, said: str) -> None:
    assert said in refused(capsys, source)


def test_a_file_and_what_is_here_already(
    tmp_path: Path, model: bytes, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "mine.gguf"
    source.write_bytes(model)
    assert mycel_models("pull", str(source)) == 0
    assert (folder / "mine.gguf").read_bytes() == model
    capsys.readouterr()
    assert "here already" in refused(capsys, str(source))
    source.write_bytes(model[:50_000])
    assert "not a whole GGUF" in refused(capsys, str(source), "--replace")
    assert (folder / "mine.gguf").read_bytes() == model, "a bad file replaced a good one"


def test_list_shows_the_files_without_a_mesh(
    tmp_path: Path, model: bytes, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mycel_models("list") == 0
    assert "no files were pulled" in capsys.readouterr().out
    folder.mkdir(parents=True)
    (folder / "tiny.gguf").write_bytes(model)
    assert mycel_models("list") == 0
    assert re.search(r"tiny\.gguf +\d+\.\d MiB", capsys.readouterr().out)
    assert mycel_models("list", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"models": [], "files": [{"path": str(folder / "tiny.gguf"), "bytes": len(model)}]}


def test_a_line_of_a_name_that_yaml_would_misread(tmp_path: Path, model: bytes, folder: Path, capsys) -> None:
    source = tmp_path / "1.5.gguf"
    source.write_bytes(model)
    assert mycel_models("pull", str(source)) == 0
    (name,) = yaml.safe_load(capsys.readouterr().out.splitlines()[-1])
    assert isinstance(name, str)
