"""What a tritonserver is started with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from services.common.triton_server import (
    LlamaModel,
    TritonPorts,
    TritonRuntime,
    TritonServerOptions,
    TritonSetupError,
    default_threads,
    remove_shared_memory,
    server_command,
    write_model_repository,
)

RUNTIME = TritonRuntime(Path("/rt"), "3.11", Path("/lib"))


def options(**changes) -> TritonServerOptions:
    values = {
        "repository": Path("/repo"),
        "backends": Path("/backends"),
        "models": ("a", "b"),
        "ports": TritonPorts(1, 2, 3),
        "shared_memory_prefix": "myceltest",
    }
    return TritonServerOptions(**{**values, **changes})


def test_models_are_loaded_by_name_and_everything_is_on_loopback() -> None:
    command, _ = server_command(RUNTIME, options(), {})
    assert command[0] == str(RUNTIME.server)
    assert [argument for argument in command if argument.startswith("--load-model")] == [
        "--load-model=a",
        "--load-model=b",
    ]
    addresses = {argument for argument in command if "-address=" in argument}
    assert addresses == {"--http-address=127.0.0.1", "--grpc-address=127.0.0.1", "--metrics-address=127.0.0.1"}


def test_only_requests_with_a_trace_are_traced_and_only_when_traces_go_somewhere() -> None:
    plain, environment = server_command(RUNTIME, options(), {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"})
    assert not [argument for argument in plain if "trace" in argument]
    assert not [name for name in environment if name.startswith("OTEL_")]
    traced, environment = server_command(RUNTIME, options(traces_url="http://c:4318/v1/traces"), {})
    assert "--trace-config=rate=0" in traced
    assert environment["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] == "http://c:4318/v1/traces"


def test_the_products_own_python_does_not_leak_in() -> None:
    _, environment = server_command(RUNTIME, options(), {"PYTHONPATH": "x", "VIRTUAL_ENV": "y", "PATH": "/bin"})
    assert "PYTHONPATH" not in environment
    assert "VIRTUAL_ENV" not in environment
    assert environment["PATH"] == "/rt/bin:/bin"


def test_repository_holds_the_models_and_nothing_else(tmp_path) -> None:
    folder = tmp_path / "models"
    write_model_repository(folder, [LlamaModel("old", Path("/w/old.gguf"), 64)])
    write_model_repository(folder, [LlamaModel("new", Path("/w/new.gguf"), 64, slots=2)])
    assert [path.name for path in folder.iterdir()] == ["new"]
    config = (folder / "new" / "config.pbtxt").read_text()
    assert 'name: "new"' in config
    assert 'backend: "llamacpp"' in config
    settings = json.loads((folder / "new" / "1" / "model.json").read_text())
    assert settings["model"] == "/w/new.gguf"
    assert settings["threads"] == default_threads() >= 1


@pytest.mark.parametrize("names", [["../up"], ["a b"], [""], ['a"b'], ["a", "a"]])
def test_name_that_triton_cannot_have_is_refused(tmp_path, names: list[str]) -> None:
    with pytest.raises(TritonSetupError, match="cannot be the name"):
        write_model_repository(tmp_path / "models", [LlamaModel(name, Path("/w"), 64) for name in names])


@pytest.mark.parametrize("stamp", [None, "{", '{"python": "3.11"}', '{"python": 1, "library_folder": "/nowhere"}'])
def test_missing_or_broken_runtime_says_what_to_do(tmp_path, stamp: str | None) -> None:
    if stamp is not None:
        (tmp_path / "runtime.json").write_text(stamp)
    with pytest.raises(TritonSetupError, match="run `make setup`"):
        TritonRuntime.locate(tmp_path)


def test_only_the_servers_own_shared_memory_is_removed(tmp_path) -> None:
    for name in ("myceltest1-a", "myceltest1-b", "myceltest2-a", "other"):
        (tmp_path / name).touch()
    assert remove_shared_memory("myceltest1", folder=tmp_path) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["myceltest2-a", "other"]


@pytest.mark.parametrize("prefix", ["", "a", "mycel*", "../../etc", "mycel[a]"])
def test_prefix_that_could_reach_further_is_refused(tmp_path, prefix: str) -> None:
    with pytest.raises(ValueError, match="not a shared-memory prefix"):
        remove_shared_memory(prefix, folder=tmp_path)
