"""Azure OpenAI on the wire, where it differs from OpenAI: its first chunk, its errors."""

from __future__ import annotations

from tests.fakes.openai_server import CHUNK_HEAD
from tests.fakes.wire_server import Reply, json_reply

OPENING = {
    **CHUNK_HEAD,
    "id": "",
    "model": "",
    "choices": [],
    "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": {"hate": {"filtered": False}}}],
}
"""The chunk about the prompt, before anything is generated."""


def error(status: int, code: str, message: str, **headers: str) -> Reply:
    """Gives an error in Azure's form: the code may be a status or a word."""
    return json_reply(status, {"error": {"code": code, "message": message, "param": None, "type": None}}, **headers)
