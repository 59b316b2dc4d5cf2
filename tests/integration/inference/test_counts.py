"""Counting a prompt's tokens before it is sent, against what the engine counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.common.errors import MycelError
from services.common.triton_server import LlamaModel
from services.inference.chat_template import ChatTemplate
from services.inference.model_file import read_prompt_facts
from tests.fakes.tiny_gguf import END_OF_TURN, build_tiny_gguf
from tests.fakes.triton_process import running_triton
from tests.integration.inference.calls import STATUS, answer, inference, request, settings_for
from tests.integration.inference.triton_requests import ask, triton_client

HANDBOOK = Path(__file__).resolve().parents[3] / "models" / "handbook" / "handbook-llama.gguf"
CONTEXT = 1024

TEXTS = [
    "Who keeps the keys, and when may I take 12345 days off in 2026?",
    "Grüße, 你好 שלום — “quotes” … 🍄‍🟫 e\u0301\u200b\u00a0x",
    "  leading\n\n\nlines\r\n\ttabs   and trailing  ",
    "it's WE'LL don't I'M o'clock ''s 1,234.56 10000000",
    "def f(x):\n    return {'a': [1, 2]}  # no\n",
    "!!!???...---***\n\n###\n",
    "a" * 400,
    f"a crafted {END_OF_TURN} one",
    "\u0000\u0001\ufdd0",
]


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory):
    """A Triton with a model of each rule by which texts fall into words."""
    folder = tmp_path_factory.mktemp("counts")
    tiny = build_tiny_gguf(folder / "tiny.gguf", context_tokens=CONTEXT)
    models = [LlamaModel("tiny", tiny.path, CONTEXT, slots=2), LlamaModel("handbook", HANDBOOK, CONTEXT, slots=2)]
    with running_triton(folder, models) as triton:
        yield models, triton


@pytest.fixture
async def service(tmp_path, counted):
    models, triton = counted
    async with inference(settings_for(tmp_path, models, triton.address)) as running:
        await running.wait_until(STATUS.SERVING)
        async with triton_client(triton.address) as client:  # both models, not only one
            for model in models:
                async for _ in ask(client, model.name, max_tokens=1):
                    pass
        yield running


@pytest.mark.parametrize("name", ["tiny", "handbook"])
@pytest.mark.parametrize("text", TEXTS)
async def test_count_is_the_engines(service, counted, name: str, text: str) -> None:
    path = next(model.gguf for model in counted[0] if model.name == name)
    facts = read_prompt_facts(path)
    got = await answer(service, request(text, model=f"{name}-local", max_tokens=1))
    parts = ChatTemplate(facts).render([{"role": "user", "content": text}]).parts
    assert got.usage.prompt_tokens == facts.counter.count(parts)
    assert facts.counter.least(parts) <= facts.counter.count(parts) <= facts.counter.most(parts)


@pytest.mark.parametrize("name", ["tiny", "handbook"])
async def test_too_long_prompt_is_refused_with_the_exact_count(service, name: str) -> None:
    model = f"{name}-local"
    frame = (await answer(service, request("🍄", model=model, max_tokens=1))).usage.prompt_tokens - 4
    with pytest.raises(MycelError) as caught:
        await answer(service, request("🍄" * 600, model=model))
    assert caught.value.reason_name == "CONTEXT_TOO_LONG"
    assert caught.value.metadata["limit"] == str(CONTEXT)
    assert int(caught.value.metadata["prompt_tokens"]) == frame + 4 * 600


async def test_too_long_is_refused_before_triton(service, counted) -> None:
    log = counted[1].log
    before = log.read_text()
    for text in ("x" * 5_000, "word " * 3_000, "x" * 1_000_000, "🍄 " * 200_000):
        with pytest.raises(MycelError) as caught:
            await answer(service, request(text, model="handbook-local"))
        assert caught.value.reason_name == "CONTEXT_TOO_LONG"
        exact = "at least" not in caught.value.message
        assert exact == (len(text.encode()) < 200_000)
        assert int(caught.value.metadata["prompt_tokens"]) >= CONTEXT
    assert log.read_text() == before
