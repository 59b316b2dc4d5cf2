"""What is known of models by their names."""

from __future__ import annotations

from dataclasses import fields

import pytest
from mycel.completion.v1 import completion_service_pb2 as completion

from services.common.config import CapabilitiesConfig, ModelConfig
from services.provider.capabilities import Capabilities, configured
from services.provider.kinds.anthropic.facts import facts as anthropic
from services.provider.kinds.anthropic.facts import has_structured_output, takes_one_sampler
from services.provider.kinds.openai.facts import facts as openai
from services.provider.kinds.openai.facts import takes_developer


@pytest.mark.parametrize(
    ("model", "context", "images", "sampling", "json_schema", "effort"),
    [
        ("gpt-4o-mini", 128_000, True, True, True, False),
        ("gpt-4o-2024-08-06", 128_000, True, True, True, False),
        ("gpt-4.1-nano", 1_047_576, True, True, True, False),
        ("gpt-4", 8192, False, True, False, False),
        ("gpt-4-turbo-2024-04-09", 128_000, True, True, False, False),
        ("gpt-35-turbo", 16_385, False, True, False, False),
        ("o3-mini", 200_000, False, False, True, True),
        ("o4-mini", 200_000, True, False, True, True),
        ("gpt-5-mini", 400_000, True, False, True, True),
        ("my-deployment", 0, True, True, True, True),
    ],
)
def test_openai(model: str, context: int, images: bool, sampling: bool, json_schema: bool, effort: bool) -> None:
    known = openai(model)
    told = (known.context, known.images, known.sampling, known.json_schema, known.reasoning_effort)
    assert told == (context, images, sampling, json_schema, effort)
    assert not known.prefix_continuation


def test_openais_embedders_only_embed() -> None:
    known = openai("text-embedding-3-small")
    assert known.embeddings
    assert not known.chat
    assert not takes_developer("text-embedding-3-small")
    assert takes_developer("gpt-4o")
    assert not takes_developer("org/llama")


@pytest.mark.parametrize(
    ("model", "context", "output", "sampling", "prefix", "forced", "effort"),
    [
        ("claude-3-5-sonnet-20241022", 200_000, 8192, True, True, True, False),
        ("claude-3-haiku-20240307", 200_000, 4096, True, True, True, False),
        ("claude-3-7-sonnet-latest", 200_000, 64_000, True, True, True, False),
        ("claude-opus-4-20250514", 200_000, 32_000, True, True, True, False),
        ("claude-opus-4-1-20250805", 200_000, 32_000, True, True, True, False),
        ("claude-sonnet-4-5-20250929", 200_000, 64_000, True, True, True, False),
        ("claude-haiku-4-5", 200_000, 64_000, True, True, True, False),
        ("claude-opus-4-5", 200_000, 64_000, True, True, True, True),
        ("claude-opus-4-6", 1_000_000, 128_000, True, False, True, True),
        ("claude-sonnet-4-6", 1_000_000, 128_000, True, False, True, True),
        ("claude-opus-4-7", 1_000_000, 128_000, False, False, True, True),
        ("claude-opus-5-5", 1_000_000, 128_000, False, False, False, True),
        ("claude-fable-5-2", 1_000_000, 128_000, False, False, False, True),
        ("something-new", 1_000_000, 128_000, False, False, False, True),
    ],
)
def test_anthropic(
    model: str, context: int, output: int, sampling: bool, prefix: bool, forced: bool, effort: bool
) -> None:
    known = anthropic(model)
    told = (known.context, known.max_output, known.sampling, known.prefix_continuation, known.tool_choice)
    assert told == (context, output, sampling, prefix, forced)
    assert known.reasoning_effort == effort
    assert known.max_temperature == 1


def test_anthropics_newer_ways() -> None:
    assert has_structured_output("claude-haiku-4-5")
    assert not has_structured_output("claude-3-5-sonnet-20241022")
    assert takes_one_sampler("claude-sonnet-4-5")
    assert not takes_one_sampler("claude-3-opus-20240229")


def test_mesh_yaml_comes_first() -> None:
    config = ModelConfig(
        provider="p", model="gpt-4o", context=9, capabilities=CapabilitiesConfig(images=False, stops=16, max_output=3)
    )
    model = configured("m", config, openai("gpt-4o"))
    assert (model.name, model.upstream, model.configured_context) == ("m", "gpt-4o", 9)
    can = model.capabilities
    assert (can.context, can.images, can.stops, can.max_output, can.tools) == (9, False, 16, 3, True)


def test_the_three_lists_of_capabilities_are_one() -> None:
    names = {field.name for field in fields(Capabilities)}
    assert names - {"context"} == set(CapabilitiesConfig.model_fields)
    assert len(completion.Capabilities.DESCRIPTOR.fields) == len(names) - 1
    everything = Capabilities(embeddings=True, max_output=1, prefix_continuation=True).message()
    assert len(everything.ListFields()) == len(names) - 1
