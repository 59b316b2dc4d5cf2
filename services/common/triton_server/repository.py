"""Writes what tritonserver reads: the backend folder and a model repository.

The sources are in deploy/triton, where the container's committed repository comes from too.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Final

from services.common.triton_server.runtime import TritonRuntime, TritonSetupError

DEPLOY_FOLDER: Final = Path(__file__).resolve().parents[3] / "deploy" / "triton"
"""The folder of the backend's source and of the configuration's template."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def default_threads() -> int:
    """Gives the engine's threads: one core is left for the rest, or both would crawl."""
    return max(1, len(os.sched_getaffinity(0)) - 1)


@dataclass(frozen=True, slots=True)
class LlamaModel:
    """A model for the llama.cpp backend.

    Attributes:
        name: Its name in Triton: letters, digits, `.`, `_` and `-`.
        gguf: The file, as tritonserver will see it.
        context_tokens: The most tokens of one request, prompt and answer together.
        slots: How many requests are generated at once, each with a context of its own.
        threads: The engine's compute threads; absent for all cores but one.
        queue: How many requests may wait for a slot before further ones are refused.
    """

    name: str
    gguf: Path
    context_tokens: int
    slots: int = 4
    threads: int | None = None
    queue: int = 64

    def settings(self) -> dict[str, object]:
        """Gives the content of the model's `1/model.json`."""
        return {
            "model": str(self.gguf),
            "context_tokens": self.context_tokens,
            "slots": self.slots,
            "threads": self.threads or default_threads(),
            "queue": self.queue,
        }


def write_model_repository(folder: Path, models: Sequence[LlamaModel], *, deploy_folder: Path = DEPLOY_FOLDER) -> None:
    """Writes a repository that holds these models and nothing else.

    Args:
        folder: The repository; whatever was in it is removed.
        models: The models, by different names.
        deploy_folder: Where the configuration's template is.

    Raises:
        TritonSetupError: A name is not allowed or is there twice.
    """
    names = [model.name for model in models]
    for name in names:
        if not _NAME.fullmatch(name) or names.count(name) > 1:
            raise TritonSetupError(f"{name!r} cannot be the name of a model in Triton")
    template = Template((deploy_folder / "templates" / "llamacpp" / "config.pbtxt").read_text())
    shutil.rmtree(folder, ignore_errors=True)
    for model in models:
        version = folder / model.name / "1"
        version.mkdir(parents=True)
        (version.parent / "config.pbtxt").write_text(template.substitute(name=model.name))
        (version / "model.json").write_text(json.dumps(model.settings(), indent=2) + "\n")


def write_backends(folder: Path, runtime: TritonRuntime, *, deploy_folder: Path = DEPLOY_FOLDER) -> None:
    """Writes a backend directory with the python backend and, on top of it, the llama.cpp one.

    Everything is copied: tritonserver refuses a backend library that is a symbolic link.

    Args:
        folder: The backend directory; whatever was in it is removed.
        runtime: Where the python backend comes from.
        deploy_folder: Where the llama.cpp backend's source is.
    """
    shutil.rmtree(folder, ignore_errors=True)
    python = folder / "python"
    python.mkdir(parents=True)
    for part in (runtime.backend_library, runtime.backend_utilities, runtime.stub):
        shutil.copy(part, python)
    shutil.copytree(
        deploy_folder / "backends" / "llamacpp",
        folder / "llamacpp",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    shutil.copy(runtime.backend_library, folder / "llamacpp")
