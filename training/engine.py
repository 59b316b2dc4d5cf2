"""Runs a GGUF file through llama.cpp, greedily."""

from __future__ import annotations

import json
import secrets
import urllib.request
from pathlib import Path
from typing import Any

import xllamacpp

from training.chat import Message

_ANSWER_TOKENS = 160
_TIMEOUT_S = 10


class Engine:
    """llama.cpp with one model loaded; answers by the chat template in the model's file."""

    def __init__(self, gguf: Path, *, threads: int = 2, context: int = 1024) -> None:
        params = xllamacpp.CommonParams()
        params.model.path = str(gguf)
        params.n_ctx = context
        params.n_parallel = 1
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
        params.verbosity = -1
        params.ui = False
        params.endpoint_slots = False
        params.cache_ram_mib = 0
        # The library always opens a loopback HTTP port: nobody else knows this key.
        self._key = secrets.token_hex(16)
        params.api_keys = [self._key]
        params.n_threads_http = 1
        params.use_jinja = True
        self._server = xllamacpp.Server(params)

    def answer(self, messages: list[Message]) -> str:
        """The greedy answer to a conversation. Raises RuntimeError if llama.cpp reports an error."""
        reply: dict[str, Any] = self._server.handle_chat_completions(
            {
                "messages": [{"role": message.role, "content": message.content} for message in messages],
                "temperature": 0.0,
                "max_tokens": _ANSWER_TOKENS,
            }
        )
        if "choices" not in reply:
            raise RuntimeError(f"llama.cpp: {reply}")
        return str(reply["choices"][0]["message"]["content"])

    def tokenize(self, text: str) -> list[int]:
        """Token ids of a text in which special tokens are recognised, without an added begin token."""
        body = json.dumps({"content": text, "parse_special": True, "add_special": False}).encode()
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._key}"}
        request = urllib.request.Request(f"{self._server.listening_address}/tokenize", body, headers)  # noqa: S310
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:  # noqa: S310 - loopback only
            return [int(token) for token in json.load(response)["tokens"]]
