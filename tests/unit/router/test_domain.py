"""Tiers, the catalogue, tenants, and putting streamed answers together."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mycel.chat.v1 import types_pb2 as chat
from mycel.completion.v1 import completion_service_pb2 as completion

from services.common.config import MeshConfig, TenantConfig, load_config
from services.common.errors import MycelError
from services.router.accumulate import Accumulator, replay
from services.router.auth import Tenants
from services.router.catalogue import INFERENCE, PROVIDER, Catalogue
from services.router.tiers import Tier, judge


def _ask(text: str) -> chat.ChatInput:
    return chat.ChatInput(messages=[chat.Message(role=chat.ROLE_USER, content=[chat.ContentPart(text=text)])])


@pytest.mark.parametrize(
    ("text", "tier"),
    [
        ("What is the capital of France?", Tier.LOW),
        ("Translate 'good morning' into Spanish.", Tier.LOW),
        ("Summarise this: " + "word " * 200, Tier.MEDIUM),
        ("Refactor this:\n```python\ndef f(x): return x\n```", Tier.HIGH),
        ("Prove that the integral of e^(-x*x) converges, step by step.", Tier.HIGH),
    ],
)
def test_prompts_are_sorted_by_what_makes_them_hard(text: str, tier: Tier) -> None:
    verdict = judge(_ask(text))
    assert verdict.tier is tier
    assert verdict.explanation.startswith(tier)


def test_tools_make_a_prompt_harder() -> None:
    value = _ask("What is the weather?")
    value.tools.add(name="weather")
    assert judge(value).tier is Tier.MEDIUM


@pytest.fixture
def config(tmp_path: Path) -> MeshConfig:
    path = tmp_path / "mesh.yaml"
    path.write_text(
        "providers: {p: {kind: openai}, t: {kind: triton}}\n"
        "models: {small: {provider: t}, mid: {provider: p}, big: {provider: p, price: {input: 2, output: 8}}}\n"
        "routes: {auto: {low: [small], medium: [mid], high: [big]}}\n"
    )
    return load_config(path).mesh


def test_a_plan_begins_with_the_tier_and_goes_on_with_the_rest(config: MeshConfig) -> None:
    plan = Catalogue(config).plan("auto", _ask("hello"))
    assert plan.tier is Tier.LOW
    assert [candidate.model for candidate in plan.candidates] == ["small", "big", "mid"]
    assert [candidate.backend for candidate in plan.candidates] == [INFERENCE, PROVIDER, PROVIDER]


def test_a_named_model_is_pinned(config: MeshConfig) -> None:
    plan = Catalogue(config).plan("mid", _ask("hello"))
    assert (plan.tier, [candidate.model for candidate in plan.candidates]) == (Tier.PINNED, ["mid"])


def test_a_model_that_is_off_is_passed_over(config: MeshConfig) -> None:
    catalogue = Catalogue(config)
    catalogue.update(PROVIDER, [completion.ModelInfo(name="big", unavailable_reason="no key")])
    plan = catalogue.plan("auto", _ask("hello"))
    assert [candidate.model for candidate in plan.candidates] == ["small", "mid"]
    assert plan.skipped == {"big": "no key"}


def test_when_all_are_off_all_are_tried(config: MeshConfig) -> None:
    catalogue = Catalogue(config)
    catalogue.update(PROVIDER, [completion.ModelInfo(name="big"), completion.ModelInfo(name="mid")])
    catalogue.update(INFERENCE, [completion.ModelInfo(name="small")])
    assert len(catalogue.plan("auto", _ask("hello")).candidates) == 3


@pytest.mark.parametrize("name", ["gpt-9", "", "x" * 5000])
def test_an_unknown_model_is_refused_with_the_known_ones(config: MeshConfig, name: str) -> None:
    with pytest.raises(MycelError) as caught:
        Catalogue(config).plan(name, _ask("hello"))
    assert caught.value.reason_name == "MODEL_NOT_FOUND"
    assert caught.value.metadata["known"] == "auto, small, mid, big"
    assert len(caught.value.message) < 500


def test_costs_are_per_million_tokens(config: MeshConfig) -> None:
    candidate = Catalogue(config).plan("big", _ask("hello")).candidates[0]
    assert candidate.cost(chat.Usage(prompt_tokens=500_000, completion_tokens=250_000)) == pytest.approx(3.0)


def test_keys_belong_to_tenants() -> None:
    digest = "sha256:" + hashlib.sha256(b"secret").hexdigest()
    tenants = Tenants({"team": TenantConfig(keys=(digest,))}, development=True)
    assert tenants.authenticate("Bearer secret") == "team"
    assert tenants.authenticate("bearer  secret ") == "team"
    for wrong in (None, "", "secret", "Bearer ", "Bearer other", "Basic secret", "Bearer mycel-dev", "Bearer \udcff"):
        with pytest.raises(MycelError) as caught:
            tenants.authenticate(wrong)
        assert caught.value.reason_name == "UNAUTHENTICATED"


def test_the_development_key_needs_permission() -> None:
    assert Tenants({}, development=True).authenticate("Bearer mycel-dev") == "dev"
    with pytest.raises(MycelError):
        Tenants({}, development=False).authenticate("Bearer mycel-dev")


@given(st.text(max_size=300), st.booleans())
def test_a_replayed_answer_is_the_stored_one(text: str, with_call: bool) -> None:
    message = chat.Message(role=chat.ROLE_ASSISTANT)
    if text:
        message.content.add(text=text)
    if with_call:
        message.tool_calls.add(id="c", name="f", arguments_json='{"a":1}')
    choice = chat.Choice(index=0, message=message, finish_reason=chat.FINISH_REASON_STOP)
    answer = Accumulator()
    for delta in replay([choice]):
        answer.add(delta)
    assert answer.choices() == [choice]


def test_a_long_answer_is_replayed_in_pieces() -> None:
    message = chat.Message(role=chat.ROLE_ASSISTANT, content=[chat.ContentPart(text="word " * 40)])
    assert len(list(replay([chat.Choice(message=message)]))) > 5


def test_two_answers_and_parallel_calls_are_kept_apart() -> None:
    answer = Accumulator()
    for delta in (
        chat.ChoiceDelta(index=1, text="b"),
        chat.ChoiceDelta(index=0, tool_calls=[chat.ToolCallDelta(index=1, id="2", name="g", arguments_json="{")]),
        chat.ChoiceDelta(index=0, tool_calls=[chat.ToolCallDelta(index=0, id="1", name="f", arguments_json="{}")]),
        chat.ChoiceDelta(index=0, tool_calls=[chat.ToolCallDelta(index=1, arguments_json="}")]),
        chat.ChoiceDelta(index=0, finish_reason=chat.FINISH_REASON_TOOL_CALLS),
        chat.ChoiceDelta(index=1, text="!", finish_reason=chat.FINISH_REASON_STOP),
    ):
        answer.add(delta)
    first, second = answer.choices()
    assert [(call.id, call.name, call.arguments_json) for call in first.message.tool_calls] == [
        ("1", "f", "{}"),
        ("2", "g", "{}"),
    ]
    assert second.message.content[0].text == "b!"
