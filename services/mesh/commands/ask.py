"""`mycel ask`: asks a question and streams the answer to the terminal."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import grpc
from mycel.chat.v1.chat_service_pb2 import CallSummary, StreamChatRequest
from mycel.chat.v1.chat_service_pb2_grpc import ChatServiceStub
from mycel.chat.v1.types_pb2 import ChatInput, ContentPart, Message, Role, Usage

from services.common.settings import SettingsError
from services.mesh.client import Caller, caller, explain, ingress_channel

_CONTROL_CHARACTERS: Final = dict.fromkeys(code for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t")
"""Removed before an answer is shown: a terminal would obey them."""


@dataclass(slots=True)
class Answer:
    """What came back."""

    text: list[str] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    summary: CallSummary = field(default_factory=CallSummary)
    first_seconds: float = 0.0
    """Until the first piece of text, in seconds."""
    seconds: float = 0.0

    def to_json(self) -> dict[str, object]:
        summary = self.summary
        return {
            "text": "".join(self.text),
            "cache": summary.cache,
            "tier": summary.tier,
            "model": summary.model,
            "provider": summary.provider,
            "attempts": summary.attempts,
            "prompt_tokens": self.usage.prompt_tokens,
            "completion_tokens": self.usage.completion_tokens,
            "cost_usd": summary.cost_usd,
            "saved_usd": summary.saved_usd,
            "first_ms": round(self.first_seconds * 1e3, 1),
            "ms": round(self.seconds * 1e3, 1),
            "trace_id": summary.trace_id,
            "explanation": summary.explanation,
        }

    def line(self) -> str:
        """Gives the one line under the answer."""
        summary, usage = self.summary, self.usage
        tokens = f"{usage.prompt_tokens} + {usage.completion_tokens} tokens"
        cost = f"${summary.cost_usd:.6f}" + (f" (saved ${summary.saved_usd:.6f})" if summary.saved_usd else "")
        model = f"{summary.model} ({summary.provider})"
        time_taken = f"{self.seconds * 1e3:.0f} ms (first text {self.first_seconds * 1e3:.0f} ms)"
        parts = [f"cache {summary.cache}", f"tier {summary.tier}", model, tokens, cost, time_taken]
        if summary.attempts > 1:
            parts.insert(3, f"{summary.attempts} attempts")
        return " · ".join([*parts, f"trace {summary.trace_id or 'none'}"])


def add(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Asks the mesh at MYCEL_INGRESS (or the one that runs on the state folder) with the key MYCEL_API_KEY."
    )
    parser.add_argument("prompt", help="the question; - reads it from standard input")
    parser.add_argument("--model", default="auto", help="a model or route by name (default: auto)")
    parser.add_argument("--cache", choices=("off", "exact", "semantic", "refresh"), help="steer the cache")
    parser.add_argument("--scope", metavar="NAME", help="share cached answers within this scope only")
    parser.add_argument("--system", metavar="TEXT", help="instructions for the model")
    parser.add_argument("--timeout", type=float, default=120.0, metavar="S", help="seconds to wait (default: 120)")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end instead of streaming")


def run(arguments: argparse.Namespace) -> int:
    prompt = sys.stdin.read() if arguments.prompt == "-" else arguments.prompt
    steering = {"x-mycel-cache": arguments.cache, "x-mycel-cache-scope": arguments.scope}
    headers = tuple((name, value) for name, value in steering.items() if value)
    show = _discard if arguments.json else _show
    try:
        who = caller()
        request = question(prompt, model=arguments.model, system=arguments.system)
        answer = asyncio.run(ask(who, request, headers, show, seconds=arguments.timeout))
    except SettingsError as error:
        print(f"mycel ask: {error}", file=sys.stderr)
        return 2
    except grpc.aio.AioRpcError as error:
        print(f"mycel ask: {explain(error, who.ingress)}", file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps(answer.to_json(), ensure_ascii=False))
    else:
        print()
        print(answer.line(), file=sys.stderr)
    return 0


def question(prompt: str, *, model: str = "auto", system: str | None = None) -> StreamChatRequest:
    """Builds the request of a single question."""
    said = [(Role.ROLE_SYSTEM, system)] if system else []
    said.append((Role.ROLE_USER, prompt))
    messages = [Message(role=role, content=[ContentPart(text=text)]) for role, text in said]
    return StreamChatRequest(model=model, input=ChatInput(messages=messages))


async def ask(
    who: Caller,
    request: StreamChatRequest,
    headers: tuple[tuple[str, str], ...],
    show: Callable[[str], None],
    *,
    seconds: float,
) -> Answer:
    """Asks, and shows each piece of text as it comes.

    Raises:
        grpc.aio.AioRpcError: the call failed.
    """
    answer = Answer()
    begun = time.monotonic()
    async with ingress_channel(who) as channel:
        stub = ChatServiceStub(channel)
        async for event in stub.StreamChat(request, timeout=seconds, metadata=(*who.metadata(), *headers)):
            kind = event.WhichOneof("event")
            if kind == "delta" and event.delta.text:
                answer.first_seconds = answer.first_seconds or time.monotonic() - begun
                answer.text.append(event.delta.text)
                show(event.delta.text)
            elif kind == "completed":
                answer.usage, answer.summary = event.completed.usage, event.completed.summary
    answer.seconds = time.monotonic() - begun
    return answer


def harmless(text: str) -> str:
    """Gives a text without the characters that steer a terminal."""
    return text.translate(_CONTROL_CHARACTERS)


def _show(text: str) -> None:
    print(harmless(text), end="", flush=True)


def _discard(_text: str) -> None:
    """Shows nothing: the whole answer is printed in the end."""
