"""Loads llama.cpp with the settings of a model's `1/model.json`."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol


class Engine(Protocol):
    """The part of xllamacpp's server that the backend uses."""

    def handle_completions(self, request: dict[str, Any], on_chunk: Callable[[dict[str, Any]], bool]) -> object:
        """Generates, calling back with each chunk; stops when the callback gives True."""


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """The content of `1/model.json`.

    Attributes:
        model: Path of the GGUF.
        context_tokens: The most tokens of one request, prompt and answer together.
        slots: How many requests are generated at once.
        threads: Compute threads.
        queue: How many requests may wait for a slot.
    """

    model: str
    context_tokens: int
    slots: int
    threads: int
    queue: int

    @classmethod
    def read(cls, path: Path) -> EngineSettings:
        """Reads and checks the file.

        Raises:
            ValueError: A field is unknown, missing or out of range; the message names it.
        """
        try:
            given = json.loads(path.read_text())
        except ValueError as error:
            raise ValueError(f"model.json: not JSON: {error}") from error
        if not isinstance(given, dict):
            raise ValueError("model.json: an object is needed")  # noqa: TRY004 - its content
        names = [field.name for field in fields(cls)]
        for name in given:
            if name not in names:
                raise ValueError(f"model.json: unknown field '{name}' (known: {', '.join(names)})")
        for name in names:
            if name not in given:
                raise ValueError(f"model.json: field '{name}' is missing")
        settings = cls(**given)
        least = {"context_tokens": 16, "slots": 1, "threads": 1, "queue": 0}
        for name, low in least.items():
            value = getattr(settings, name)
            if type(value) is not int or value < low:
                raise ValueError(f"model.json: '{name}' must be a whole number from {low} on")
        if not Path(settings.model).is_file():
            raise ValueError(f"model.json: 'model': there is no file {settings.model}")
        return settings


def load_engine(settings: EngineSettings) -> Engine:
    """Loads the model into memory.

    Raises:
        RuntimeError: The file is not a model that llama.cpp can load.
    """
    import xllamacpp  # noqa: PLC0415 - the rest can be imported and tested without the engine

    params = xllamacpp.CommonParams()
    params.model.path = settings.model
    params.n_parallel = settings.slots
    params.n_ctx = settings.context_tokens * settings.slots  # llama.cpp divides it among the slots
    params.cpuparams.n_threads = settings.threads
    params.cpuparams_batch.n_threads = settings.threads
    params.cache_ram_mib = 0
    params.verbosity = -1
    # xllamacpp always opens an HTTP server on a loopback port: nobody shall know its key.
    params.api_keys = [secrets.token_hex(32)]
    params.n_threads_http = 1
    params.endpoint_slots = False
    params.ui = False
    engine: Engine = xllamacpp.Server(params)
    return engine


def check_grammar(grammar: str) -> str:
    """Compiles a grammar as the engine will, and gives the error; empty for none."""
    import llguidance  # noqa: PLC0415 - as above

    return str(llguidance.LLMatcher.validate_grammar(grammar))
