"""Asks through a provider's SDK alone and prints the CPU seconds of a call: what the adapter is compared with.

python -m tests.benchmarks.reliability.bare_sdk KIND ADDRESS CALLS
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anthropic
import ollama
import openai

from tests.benchmarks.reliability.speech import MODELS

_WARM_UP = 30
Ask = Callable[[], Any]


@asynccontextmanager
async def _openai(address: str) -> AsyncIterator[Ask]:
    async with openai.AsyncOpenAI(api_key="x", base_url=f"{address}/v1", max_retries=0) as client:
        yield lambda: _chunks(client, "openai")


@asynccontextmanager
async def _azure(address: str) -> AsyncIterator[Ask]:
    async with openai.AsyncAzureOpenAI(
        api_key="x", azure_endpoint=address, api_version="2024-10-21", max_retries=0
    ) as client:
        yield lambda: _chunks(client, "azure_openai")


async def _chunks(client: openai.AsyncOpenAI, kind: str) -> str:
    stream = await client.chat.completions.create(
        model=MODELS[kind],
        messages=[{"role": "user", "content": "speak"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    return "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])


@asynccontextmanager
async def _anthropic(address: str) -> AsyncIterator[Ask]:
    async with anthropic.AsyncAnthropic(api_key="x", base_url=address, max_retries=0) as client:

        async def ask() -> str:
            stream = await client.messages.create(
                model=MODELS["anthropic"],
                max_tokens=1000,
                messages=[{"role": "user", "content": "speak"}],
                stream=True,
            )
            texts = [
                event.delta.text
                async for event in stream
                if event.type == "content_block_delta" and event.delta.type == "text_delta"
            ]
            return "".join(texts)

        yield ask


@asynccontextmanager
async def _ollama(address: str) -> AsyncIterator[Ask]:
    client = ollama.AsyncClient(address)

    async def ask() -> str:
        stream = await client.chat(model=MODELS["ollama"], messages=[{"role": "user", "content": "speak"}], stream=True)
        return "".join([part.message.content or "" async for part in stream])

    yield ask
    await client.close()


async def main(kind: str, address: str, calls: int) -> None:
    connect = {"openai": _openai, "azure_openai": _azure, "anthropic": _anthropic, "ollama": _ollama}[kind]
    async with connect(address) as ask:
        for _ in range(_WARM_UP):
            assert await ask()
        begun = time.process_time()
        for _ in range(calls):
            await ask()
        print((time.process_time() - begun) / calls)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
