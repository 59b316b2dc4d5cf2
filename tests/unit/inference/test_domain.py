"""Sampling parameters, Triton's errors, admission, and the pieces of an answer."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mycel.chat.v1 import types_pb2 as chat

from services.common.config import MeshConfig
from services.common.errors import MycelError
from services.inference.chat_template import ChatTemplate
from services.inference.model_file import PromptFacts
from services.inference.models import LocalModel, LocalModels
from services.inference.prompt import Prompt
from services.inference.sampling import sampling_parameters
from services.inference.triton_errors import from_triton_message
from services.inference.vllm_tensors import PieceReader, make_inputs


def test_what_the_caller_does_not_say_comes_from_the_models_file_or_is_said_anyway() -> None:
    asked = chat.ChatInput()
    assert sampling_parameters(asked, 512, {}) == {"max_tokens": 512, "temperature": 0.6, "top_p": 0.9}
    assert sampling_parameters(asked, 512, {"temperature": 0.2, "top_k": 20}) == {
        "max_tokens": 512,
        "temperature": 0.2,
        "top_k": 20,
    }
    asked.parameters.temperature = 0.0
    assert sampling_parameters(asked, 512, {"temperature": 0.2})["temperature"] == 0.0


def test_every_parameter_has_vllms_name() -> None:
    asked = chat.ChatInput()
    asked.parameters.CopyFrom(
        chat.GenerationParameters(
            max_tokens=9,
            temperature=0.5,
            top_p=0.25,
            seed=7,
            stop=["a", "b"],
            presence_penalty=1,
            frequency_penalty=-1,
            logprobs=True,
            top_logprobs=3,
            logit_bias={5: -100},
        )
    )
    asked.response_format.json_object = True
    assert sampling_parameters(asked, 512, {}) == {
        "max_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.25,
        "seed": 7,
        "stop": ["a", "b"],
        "presence_penalty": 1.0,
        "frequency_penalty": -1.0,
        "logprobs": 3,
        "logit_bias": {"5": -100.0},
        "structured_outputs": {"json_object": True},
    }


@pytest.mark.parametrize(
    ("message", "reason", "field"),
    [
        ("INVALID_ARG: sampling parameter 'top_p': must be", "INVALID_ARGUMENT", "top_p"),
        ("INVALID_ARG: structured_outputs: the schema cannot", "INVALID_ARGUMENT", "response_format"),
        ("INVALID_ARG: Failed to parse grammar", "INVALID_ARGUMENT", "response_format"),
        ("INVALID_ARG: input 'text_input' is not", "INVALID_ARGUMENT", "messages"),
        ("UNAVAILABLE: the model's queue is full", "OVERLOADED", ""),
        ("UNAVAILABLE: the model is shutting down", "BACKEND_UNAVAILABLE", ""),
        ("INTERNAL: generation failed: oops", "BACKEND_UNAVAILABLE", ""),
        ("Request for unknown model: 'x' is not found", "BACKEND_UNAVAILABLE", ""),
        ("Stub process 'x' is not healthy.", "BACKEND_UNAVAILABLE", ""),
        ("", "BACKEND_UNAVAILABLE", ""),
    ],
)
def test_tritons_errors(message: str, reason: str, field: str) -> None:
    error = from_triton_message(message, "llama")
    assert (error.reason_name, error.field, error.metadata["model"]) == (reason, field, "llama")


@pytest.mark.parametrize(
    "message",
    [
        "INVALID_ARG: request (601 tokens) exceeds the available context size (512 tokens), try increasing it",
        "Error: The decoder prompt (length 601) is longer than the maximum model length of 512.",
    ],
)
def test_too_long_prompt_in_every_engines_words(message: str) -> None:
    error = from_triton_message(message, "llama")
    assert error.reason_name == "CONTEXT_TOO_LONG"
    assert (error.metadata["prompt_tokens"], error.metadata["limit"]) == ("601", "512")


def local_model(**settings) -> LocalModel:
    config = {
        "providers": {"local": {"kind": "triton"}, "openai": {"kind": "openai"}},
        "models": {"llama": {"provider": "local", **settings}, "gpt": {"provider": "openai"}},
        "routes": {"auto": {"low": ["gpt"]}},
    }
    return LocalModels(MeshConfig.model_validate(config)).find("llama")


def test_model_can_be_asked_when_its_file_was_read_and_triton_has_it() -> None:
    model = local_model(slots=2)
    with pytest.raises(MycelError, match="not known yet"):
        model.ready_template()
    model.template = ChatTemplate(PromptFacts("{{ messages }}", "", "", False, {}, {}))
    model.unavailable_reason = ""
    assert model.ready_template() is model.template


class Result:
    """A result with given tensors."""

    def __init__(self, **tensors) -> None:
        self._tensors = tensors

    def as_numpy(self, name: str):
        return self._tensors.get(name)


def result(text: bytes, finish: bytes = b"None", **more) -> Result:
    return Result(
        text_output=np.array([text], dtype=np.object_),
        finish_reason=np.array([finish], dtype=np.object_),
        num_input_tokens=np.array([5], dtype=np.uint32),
        num_output_tokens=np.array([1], dtype=np.uint32),
        **more,
    )


@given(text=st.text(), cuts=st.lists(st.integers(0, 200), max_size=8))
def test_no_piece_ever_splits_a_character(text: str, cuts: list[int]) -> None:
    raw = text.encode()
    edges = [0, *sorted(min(cut, len(raw)) for cut in cuts), len(raw)]
    chunks = [raw[start:end] for start, end in itertools.pairwise(edges)]
    reader = PieceReader()
    pieces = [reader.read(result(chunk)) for chunk in chunks] + [reader.read(result(b"", b"stop"))]
    assert "".join(piece.text for piece in pieces) == text


def test_log_probabilities_in_vllms_form() -> None:
    entry = {
        "9": {"logprob": -0.5, "decoded_token": "no"},
        "4": {"logprob": -0.1, "decoded_token": "yes", "rank": 1},
        "7": {"logprob": -2.5, "decoded_token": "\ufffd", "rank": 2, "bytes": [0xF0]},
    }
    logprobs = np.array([json.dumps([entry]).encode()], dtype=np.object_)
    (record,) = PieceReader().read(result(b"no", logprobs=logprobs)).logprobs
    assert (record.sampled.text, record.sampled.raw) == ("no", b"no")
    assert [(token.text, token.raw) for token in record.top] == [("yes", b"yes"), ("\ufffd", b"\xf0")]


@pytest.mark.parametrize(
    "malformed",
    [
        Result(),
        Result(text_output=np.array([b"x"], dtype=np.object_)),
        result(b"x", logprobs=np.array([b"{"], dtype=np.object_)),
        result(b"x", logprobs=np.array([b"[{}]"], dtype=np.object_)),
    ],
)
def test_answer_that_is_not_understood(malformed: Result) -> None:
    with pytest.raises(MycelError) as caught:
        PieceReader().read(malformed)
    assert caught.value.reason_name == "BACKEND_MALFORMED"


PROMPT = Prompt("p\u200b", (0, "p"), crafted=True)


def test_an_engine_that_takes_parts_gets_the_exact_prompt() -> None:
    known = frozenset({"prompt_parts", "return_num_cached_tokens"})
    plain = {tensor.name() for tensor in make_inputs(PROMPT, {})}
    assert {tensor.name() for tensor in make_inputs(PROMPT, {}, known)} - plain == known
    usual = Prompt("p", (0, "p"), crafted=False)
    assert "prompt_parts" not in {tensor.name() for tensor in make_inputs(usual, {}, known)}


def test_log_probabilities_are_asked_for_only_when_wanted() -> None:
    names = [tensor.name() for tensor in make_inputs(PROMPT, {})]
    assert "return_logprobs" not in names
    assert [tensor.name() for tensor in make_inputs(PROMPT, {"logprobs": 0})] == [*names, "return_logprobs"]
