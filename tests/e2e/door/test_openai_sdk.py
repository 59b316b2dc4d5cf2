"""The official OpenAI SDK against the door, with nothing but another base URL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
import pytest_asyncio

from tests.e2e.door.door import KEY, Door

MESSAGES: list[Any] = [{"role": "user", "content": "Who carries water?"}]
UNCACHED = {"x-mycel-cache": "off"}


@pytest_asyncio.fixture
async def client(door: Door) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{door.url}/v1", api_key=KEY, max_retries=0) as opened:
        yield opened


async def test_an_answer_in_one_piece(door: Door, client: openai.AsyncOpenAI) -> None:
    raw = await client.chat.completions.with_raw_response.create(
        model="auto", messages=MESSAGES, extra_headers=UNCACHED
    )
    assert raw.headers["x-mycel-model"] == "tiny"
    completion = raw.parse()
    assert completion.choices[0].message.content == door.answer
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage is not None
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens


async def test_an_answer_piece_by_piece(door: Door, client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model="tiny",
        messages=MESSAGES,
        stream=True,
        stream_options={"include_usage": True},
        extra_headers=UNCACHED,
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text == door.answer
    assert chunks[-1].usage is not None
    assert {chunk.id for chunk in chunks} == {chunks[0].id}


async def test_max_tokens_and_stop(door: Door, client: openai.AsyncOpenAI) -> None:
    async def ask(**parameters: Any) -> Any:
        answer = await client.chat.completions.create(
            model="tiny", messages=MESSAGES, extra_headers=UNCACHED, **parameters
        )
        return answer.choices[0]

    cut = await ask(max_completion_tokens=2)
    assert cut.finish_reason == "length"
    assert door.answer.startswith(cut.message.content)
    stopped = await ask(stop=[","])
    assert stopped.finish_reason == "stop"
    assert stopped.message.content == door.answer.partition(",")[0]


async def test_the_synchronous_client(door: Door) -> None:
    def ask() -> str | None:
        with openai.OpenAI(base_url=f"{door.url}/v1", api_key=KEY, max_retries=0) as client:
            return client.chat.completions.create(model="auto", messages=MESSAGES).choices[0].message.content

    assert await asyncio.to_thread(ask) == door.answer


async def test_models(client: openai.AsyncOpenAI) -> None:
    assert {"auto", "tiny", "endless"} == {model.id async for model in client.models.list()}
    assert (await client.models.retrieve("tiny")).id == "tiny"
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("org/name")


async def test_embeddings(client: openai.AsyncOpenAI) -> None:
    answer = await client.embeddings.create(model="all-MiniLM-L6-v2", input=["water", "sugar"])
    assert [len(item.embedding) for item in answer.data] == [384, 384]
    assert answer.data[0].embedding != answer.data[1].embedding


async def test_errors(door: Door, client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as not_found:
        await client.chat.completions.create(model="gpt-9", messages=MESSAGES)
    assert (not_found.value.code, not_found.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError) as bad:
        await client.chat.completions.create(model="auto", messages=MESSAGES, max_tokens=0)
    assert bad.value.param == "max_tokens"
    with pytest.raises(openai.AuthenticationError) as wrong_key:
        await client.with_options(api_key="wrong").chat.completions.create(model="auto", messages=MESSAGES)
    assert wrong_key.value.code == "invalid_api_key"
    large: list[Any] = [{"role": "user", "content": "x" * 40_000_000}]
    with pytest.raises(openai.APIStatusError) as too_large:
        await client.chat.completions.create(model="auto", messages=large)
    assert too_large.value.status_code == 413
    await door.works()
