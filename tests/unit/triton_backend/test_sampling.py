"""vLLM's sampling parameters as llama.cpp's request."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mycel_llamacpp.failures import InvalidRequestError
from mycel_llamacpp.sampling import parse_sampling


def accept(_grammar: str) -> str:
    return ""


def parse(**parameters):
    return parse_sampling(json.dumps(parameters), accept)


def test_absent_parameters_are_vllms_defaults() -> None:
    assert parse_sampling("", accept) == {
        "max_tokens": 16,
        "temperature": 1.0,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
    }


def test_names_and_forms_that_differ() -> None:
    parsed = parse(repetition_penalty=1.1, top_k=-1, stop="end", seed=-1, logit_bias={"5": -100})
    assert parsed["repeat_penalty"] == 1.1
    assert parsed["top_k"] == 0
    assert parsed["stop"] == ["end"]
    assert parsed["seed"] == 2**32 - 1
    assert parsed["logit_bias"] == [[5, -100]]


def test_schema_becomes_a_grammar_without_free_blanks() -> None:
    seen = []
    parsed = parse_sampling(json.dumps({"structured_outputs": json.dumps({"json": '{"type": "object"}'})}), seen.append)
    assert seen == [parsed["grammar"]]
    schema = json.loads(parsed["grammar"].partition("%json ")[2])
    assert schema == {"x-guidance": {"whitespace_flexible": False}, "type": "object"}


def test_schema_that_cannot_be_compiled_says_why() -> None:
    with pytest.raises(InvalidRequestError, match=r"Invalid type: nope$"):
        parse_sampling('{"structured_outputs": {"json": {}}}', lambda _: "Invalid type: nope\n   1 | ...")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_tokens", 0),
        ("max_tokens", 2**31),
        ("max_tokens", True),
        ("temperature", None),
        ("temperature", float("inf")),
        ("top_p", 1.01),
        ("min_p", -0.1),
        ("presence_penalty", 2.5),
        ("seed", 2**64),
        ("stop", [1]),
        ("ignore_eos", 1),
        ("logprobs", 21),
        ("logit_bias", {"a": 1}),
        ("logit_bias", [1]),
        ("best_of", 2),
    ],
)
def test_refusal_names_the_parameter(name: str, value: object) -> None:
    with pytest.raises(InvalidRequestError, match=f"'{name}'"):
        parse(**{name: value})


@given(st.text() | st.from_regex(r'\{"[a-z_]+": [-0-9eE.\[\]{}"a-z]*\}'))
def test_anything_else_is_refused_and_never_breaks(text: str) -> None:
    with suppress(InvalidRequestError):
        assert parse_sampling(text, accept)["max_tokens"] >= 1


@given(
    st.dictionaries(
        st.sampled_from(["max_tokens", "temperature", "top_p", "top_k", "seed", "stop", "logprobs", "logit_bias"]),
        st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=3),
    )
)
def test_any_value_is_taken_or_refused(parameters: dict[str, object]) -> None:
    with suppress(InvalidRequestError):
        parse(**parameters)
