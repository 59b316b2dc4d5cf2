"""Asks one question over one of the three doors."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Final

from mycel.chat.v1.chat_service_pb2 import ChatRequest, ChatResponse
from openai import OpenAI

from services.mesh.client import Caller
from services.mesh.commands.ask import ask, question
from services.mesh.demo import grpc_web

_SECONDS: Final = 30.0
_ROUTE: Final = "auto"


@dataclass(frozen=True, slots=True)
class Asked:
    """How a question was answered."""

    via: str
    prompt: str
    text: str
    cache: str
    tier: str
    model: str
    milliseconds: float
    trace_id: str


def by_grpc(who: Caller, prompt: str) -> Asked:
    """Asks by native gRPC, streamed.

    Raises:
        grpc.aio.AioRpcError: the call failed.
    """
    answer = asyncio.run(ask(who, question(prompt), (), lambda _: None, seconds=_SECONDS))
    summary = answer.summary
    took = answer.seconds * 1e3
    text = "".join(answer.text)
    return Asked("gRPC", prompt, text, summary.cache, summary.tier, summary.model, took, summary.trace_id)


def by_grpc_web(who: Caller, prompt: str) -> Asked:
    """Asks by gRPC-Web, as a browser does.

    Raises:
        GrpcWebError: the call failed.
    """
    request = ChatRequest(model=_ROUTE, input=question(prompt).input)
    begun = time.monotonic()
    answer = grpc_web.call(
        who.ingress, "/mycel.chat.v1.ChatService/Chat", request.SerializeToString(), dict(who.metadata())
    )
    took = (time.monotonic() - begun) * 1e3
    response = ChatResponse.FromString(answer.messages[0])
    text = "".join(part.text for part in response.choices[0].message.content)
    summary = response.summary
    return Asked("gRPC-Web", prompt, text, summary.cache, summary.tier, summary.model, took, summary.trace_id)


def by_openai(who: Caller, prompt: str) -> Asked:
    """Asks through the official OpenAI SDK, over HTTP and JSON.

    Raises:
        openai.OpenAIError: the call failed.
    """
    with OpenAI(base_url=f"http://{who.ingress}/v1", api_key=who.key, max_retries=0, timeout=_SECONDS) as client:
        begun = time.monotonic()
        raw = client.chat.completions.with_raw_response.create(
            model=_ROUTE, messages=[{"role": "user", "content": prompt}]
        )
        took = (time.monotonic() - begun) * 1e3
        text = raw.parse().choices[0].message.content or ""
        told = {name: raw.headers.get(f"x-mycel-{name}", "") for name in ("cache", "tier", "model", "trace-id")}
    return Asked("OpenAI SDK", prompt, text, told["cache"], told["tier"], told["model"], took, told["trace-id"])
