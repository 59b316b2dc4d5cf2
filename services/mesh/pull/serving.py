"""The line of mesh.yaml that serves a model's file."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Final

import yaml

from services.common.config import ConfigError, load_config
from services.mesh.pull.pull import Pulled

_CONTEXT_TOKENS: Final = 8192
"""More than that costs memory that a first try should not need."""
_PLAIN: Final = re.compile(r"[A-Za-z0-9/._+-]+")


def serving_line(pulled: Pulled) -> str:
    """Gives the line, to stand under `models:`."""
    name = model_name(pulled.path)
    context = pulled.facts.context_tokens if pulled.facts else 0
    tokens = f", context: {min(context, _CONTEXT_TOKENS)}" if context else ""
    return f"  {_scalar(name)}: {{provider: {triton_provider()}, gguf: {_scalar(str(pulled.path))}{tokens}}}"


def _scalar(text: str) -> str:
    """Writes a text as YAML, in quotes where it would be taken for something else, such as a number."""
    return text if _PLAIN.fullmatch(text) and yaml.safe_load(text) == text else json.dumps(text)


def model_name(path: Path) -> str:
    """Makes a name that the mesh and Triton both take from a file's."""
    name = re.sub(r"[^a-z0-9.-]+", "-", path.stem.lower()).strip("-.")
    return name[:64] or "model"


def triton_provider() -> str:
    """Gives the name of the configuration's provider that serves local models; `local` when it has none."""
    try:
        providers = load_config().mesh.providers
    except ConfigError:
        return "local"
    return next((name for name, provider in providers.items() if provider.kind == "triton"), "local")


def pulled_files(folder: Path) -> list[Path]:
    """Gives the models' files of a folder, by name."""
    return sorted(path for path in folder.glob("*") if path.suffix in (".gguf", ".safetensors") and path.is_file())
