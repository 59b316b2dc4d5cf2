"""A local Ollama, found by itself: without a mesh.yaml its models join the tiers."""

from __future__ import annotations

import json
import os
import re
import urllib.request
from pathlib import Path
from typing import Final

import yaml

from services.common.config import BUILTIN_HANDBOOK, LoadedConfig, load_config

_DEFAULT_ADDRESS: Final = "http://127.0.0.1:11434"
_SECONDS: Final = 0.5
_MOST_BYTES: Final = 1_000_000
_MOST_MODELS: Final = 20
_FILE: Final = "default.mesh.yaml"
_MODEL_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}")
_HEAD: Final = "# Written by `mycel up`: the default configuration and the models of the Ollama that was running.\n"


def with_local_ollama(loaded: LoadedConfig, state: Path) -> LoadedConfig:
    """Gives the configuration with the models of a local Ollama, when the default one applies and an Ollama answers.

    Args:
        loaded: the configuration that applies; one of the user's own is left as it is.
        state: the folder that the joined configuration is written to.
    """
    if not loaded.is_default:
        return loaded
    models = ollama_models(os.environ.get("OLLAMA_HOST", ""))
    if not models:
        return loaded
    values = yaml.safe_load(loaded.path.read_text(encoding="utf-8"))
    values["providers"]["ollama"] = {"kind": "ollama"}
    values["models"] |= {name: {"provider": "ollama"} for name in models}
    handbook = {name for name, model in values["models"].items() if model.get("gguf") == BUILTIN_HANDBOOK}
    for tier, names in values["routes"]["auto"].items():
        paid = [name for name in names if name not in handbook]
        # Easy prompts go to what costs nothing; the rest fall back on it. The handbook Llama stays the last resort.
        chosen = [*models, *paid] if tier == "low" else [*paid, *models]
        values["routes"]["auto"][tier] = [*chosen, *(name for name in names if name in handbook)]
    path = state / _FILE
    path.write_text(_HEAD + yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return load_config(path)


def ollama_models(host: str) -> list[str]:
    """Gives the names of the models that an Ollama server has; none when nobody answers.

    Args:
        host: what OLLAMA_HOST says, with or without a scheme and port; empty means Ollama's own address.
    """
    address = host or _DEFAULT_ADDRESS
    if "://" not in address:
        address = f"http://{address}" if ":" in address else f"http://{address}:11434"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{address.rstrip('/')}/api/tags", timeout=_SECONDS) as answer:
            told = json.loads(answer.read(_MOST_BYTES))
        names = [str(model["name"]) for model in told["models"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [name for name in names if _MODEL_NAME.fullmatch(name)][:_MOST_MODELS]
