"""The commands, as a person or a script runs them, on a running mesh."""

from __future__ import annotations

import json
import time

import pytest

from tests.e2e.conftest import Mesh
from tests.e2e.meshes import MESH, mycel
from tests.fakes.tiny_gguf import SCRIPT

ANSWER = "".join(SCRIPT)


def test_ask_streams_the_answer_and_tells_about_it_in_one_line(mesh: Mesh) -> None:
    result = mycel("ask", "what do hyphae do?", environment=mesh.environment)
    assert (result.returncode, result.stdout.strip()) == (0, ANSWER)
    (line,) = result.stderr.splitlines()
    assert line.startswith("cache miss · tier low · tiny (local) · ")
    for part in ("tokens", "$0.000000", " ms", "trace "):
        assert part in line


def test_ask_json_is_for_scripts(mesh: Mesh) -> None:
    result = mycel("ask", "say it", "--json", "--cache", "off", "--system", "be brief", environment=mesh.environment)
    told = json.loads(result.stdout)
    assert (told["text"], told["cache"], told["model"]) == (ANSWER, "bypass", "tiny")
    assert told["prompt_tokens"] > 0
    assert len(told["trace_id"]) == 32


@pytest.mark.parametrize(
    ("arguments", "more", "said"),
    [
        (("hello", "--model", "huge"), {}, ("MODEL_NOT_FOUND", "huge", "tiny")),
        (("", "--cache", "off"), {}, ("INVALID_ARGUMENT", "messages")),
        (("hello",), {"MYCEL_API_KEY": "wrong"}, ("UNAUTHENTICATED",)),
        (("hello",), {"MYCEL_INGRESS": "127.0.0.1:1"}, ("nothing answers at 127.0.0.1:1", "mycel up")),
    ],
)
def test_an_error_is_one_line(
    mesh: Mesh, arguments: tuple[str, ...], more: dict[str, str], said: tuple[str, ...]
) -> None:
    result = mycel("ask", *arguments, environment={**mesh.environment, **more})
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert all(text in line for text in said), line


def test_status_shows_every_part_and_why_a_model_is_off(mesh: Mesh) -> None:
    result = mycel("status", "--json", environment=mesh.environment)
    told = json.loads(result.stdout)
    assert (result.returncode, told["ok"]) == (0, True)
    parts = {part["name"]: part for part in told["parts"]}
    assert set(parts) == {"envoy", "triton", "router", "cache", "provider", "inference"}
    assert all(part["health"] == "ok" and part["version"] and part["address"] for part in parts.values())
    models = {model["name"]: model for model in told["models"]}
    assert models["tiny"]["on"]
    assert (models["gpt"]["on"], models["gpt"]["why"]) == (False, "OPENAI_API_KEY is not set")
    table = mycel("status", environment=mesh.environment).stdout
    assert all(name in table for name in (*parts, "OPENAI_API_KEY"))


def test_models_lists_them(mesh: Mesh) -> None:
    listed = json.loads(mycel("models", "--json", environment=mesh.environment).stdout)
    assert {model["name"]: model["kind"] for model in listed} == {"tiny": "triton", "gpt": "openai"}


def test_trace_shows_the_call_that_ask_named(mesh: Mesh) -> None:
    asked = mycel("ask", "trace this", "--json", environment=mesh.environment)
    trace_id = json.loads(asked.stdout)["trace_id"]
    deadline = time.monotonic() + 15
    result = mycel("trace", trace_id[:20], environment=mesh.environment)
    while "InferRequest" not in result.stdout and time.monotonic() < deadline:
        result = mycel("trace", trace_id[:20], environment=mesh.environment)
    assert "InferRequest" in result.stdout, result.stderr
    assert trace_id in result.stdout
    told = json.loads(mycel("trace", trace_id, "--json", environment=mesh.environment).stdout)
    assert told["trace_id"] == trace_id
    unknown = mycel("trace", "ffff", environment=mesh.environment)
    assert (unknown.returncode, unknown.stderr.startswith("mycel trace: no trace ffff")) == (1, True)


def test_commands_without_a_mesh_say_so(tmp_path) -> None:
    for command in ("status", "models", "trace"):
        result = mycel(command, environment={"MYCEL_HOME": str(tmp_path)})
        assert result.returncode == 1
        assert "no mesh runs on the state in" in result.stderr


def test_config_check(tmp_path) -> None:
    file = tmp_path / "mesh.yaml"
    file.write_text(MESH)
    right = mycel("config", "check", str(file), environment={})
    assert (right.returncode, right.stdout) == (0, f"{file} is right: 2 providers, 2 models, 1 route, 0 tenants\n")
    assert (
        json.loads(mycel("config", "check", str(file), "--json", environment={}).stdout)["cache"]["mode"] == "semantic"
    )
    file.write_text(MESH + "tenats: {}\n")
    wrong = mycel("config", "check", str(file), environment={})
    assert wrong.returncode == 1
    assert wrong.stderr == f"mycel config check: {file}:9: tenats: no such field\n"
