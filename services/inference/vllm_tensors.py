"""The tensors of Triton's vLLM backend, which our llama.cpp backend shares."""

from __future__ import annotations

import codecs
import json
from typing import Any, Final, Protocol, TypeAlias

import numpy as np
from mycel.error.v1.error_reason_pb2 import ErrorReason
from tritonclient.grpc import InferInput

from services.common.errors import MycelError
from services.inference.pieces import Piece, TokenFact, TokenRecord
from services.inference.prompt import Prompt

_RETURNED: Final = ("finish_reason", "num_input_tokens", "num_output_tokens")

_VLLM: Final[frozenset[str]] = frozenset()
"""The inputs of vLLM's own backend beyond those that are always there."""

Tensor: TypeAlias = np.ndarray[Any, Any]


class Result(Protocol):
    """A result as tritonclient gives it."""

    def as_numpy(self, name: str) -> Tensor | None:
        """Gives an output; None when the result has none of that name."""
        ...


def make_inputs(prompt: Prompt, sampling: dict[str, Any], known: frozenset[str] = _VLLM) -> list[InferInput]:
    """Makes the tensors of a streamed request.

    Args:
        prompt: the prompt; exactly, where the model takes parts, and with broken spellings otherwise.
        sampling: vLLM's sampling parameters.
        known: the inputs that the model has beyond vLLM's.
    """
    wanted = [*_RETURNED, *(["logprobs"] if "logprobs" in sampling else [])]
    if "return_num_cached_tokens" in known:
        wanted.append("num_cached_tokens")
    exact = prompt.crafted and "prompt_parts" in known
    return [
        _text("text_input", prompt.text),
        *([_text("prompt_parts", json.dumps(prompt.parts))] if exact else []),
        _text("sampling_parameters", json.dumps(sampling)),
        _flag("stream", value=True),
        _flag("exclude_input_in_output", value=True),
        *(_flag(f"return_{name}", value=True) for name in wanted),
    ]


class PieceReader:
    """Reads the results of one stream. Holds back the bytes of a character that is not whole yet."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def read(self, result: Result) -> Piece:
        """Reads a result.

        Raises:
            MycelError: BACKEND_MALFORMED, when a tensor is missing or holds what it must not.
        """
        try:
            finish = _first(result, "finish_reason").decode("utf-8")
            finished = finish not in ("None", "")
            cached = result.as_numpy("num_cached_tokens")
            records = result.as_numpy("logprobs")
            return Piece(
                text=self._decoder.decode(_first(result, "text_output"), final=finished),
                new_tokens=int(_first(result, "num_output_tokens")),
                prompt_tokens=int(_first(result, "num_input_tokens")),
                cached_tokens=0 if cached is None else int(cached.reshape(-1)[0]),
                finish_reason=finish if finished else "",
                logprobs=() if records is None else _records(records.reshape(-1)[0]),
            )
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            raise MycelError(
                ErrorReason.ERROR_REASON_BACKEND_MALFORMED, "Triton's answer was not understood"
            ) from error


def _first(result: Result, name: str) -> Any:
    tensor = result.as_numpy(name)
    if tensor is None:
        raise LookupError(name)
    return tensor.reshape(-1)[0]


def _records(text: bytes) -> tuple[TokenRecord, ...]:
    """Reads one map a token: token id to its facts, the sampled token first."""
    return tuple(_record(list(entry.values())) for entry in json.loads(text) or [])


def _record(facts: list[dict[str, Any]]) -> TokenRecord:
    ranked = sorted((fact for fact in facts if fact.get("rank")), key=lambda fact: int(fact["rank"]))
    return TokenRecord(_token(facts[0]), tuple(map(_token, ranked)))


def _token(fact: dict[str, Any]) -> TokenFact:
    text = str(fact["decoded_token"])
    raw = bytes(fact["bytes"]) if "bytes" in fact else text.encode()
    return TokenFact(text, float(fact["logprob"]), raw)


def _text(name: str, value: str) -> InferInput:
    return _tensor(name, "BYTES", np.array([value.encode()], dtype=np.object_))


def _flag(name: str, *, value: bool) -> InferInput:
    return _tensor(name, "BOOL", np.array([value], dtype=np.bool_))


def _tensor(name: str, kind: str, values: Tensor) -> InferInput:
    tensor = InferInput(name, [1], kind)  # type: ignore[no-untyped-call]
    tensor.set_data_from_numpy(values)  # type: ignore[no-untyped-call]
    return tensor
