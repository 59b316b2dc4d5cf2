"""Turns vLLM's sampling parameters, the wire form of the vLLM backend, into llama.cpp's request."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, Final

from mycel_llamacpp.failures import InvalidRequestError

# What vLLM assumes for an absent parameter; llama.cpp's own defaults differ.
_DEFAULTS: Final[Mapping[str, Any]] = {
    "max_tokens": 16,
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
}


def parse_sampling(text: str, check_grammar: Callable[[str], str]) -> dict[str, Any]:
    """Gives the fields of a llama.cpp completion request.

    Args:
        text: A JSON object of vLLM sampling parameters; empty for vLLM's defaults.
        check_grammar: Compiles an llguidance grammar and gives the error, empty for none.

    Raises:
        InvalidRequestError: Not a JSON object, or a parameter is unknown or has a value out of range.
    """
    try:
        given = json.loads(text or "{}")
    except ValueError as error:
        raise InvalidRequestError(f"sampling_parameters is not JSON: {error}") from None
    if not isinstance(given, dict):
        raise InvalidRequestError("sampling_parameters must be a JSON object")
    request = dict(_DEFAULTS)
    for name, value in given.items():
        if name == "structured_outputs":
            request.update(_structured(value, check_grammar))
            continue
        if name not in _PARAMETERS:
            raise InvalidRequestError(f"sampling parameter '{name}' is not supported")
        field, convert = _PARAMETERS[name]
        try:
            request[field] = convert(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise InvalidRequestError(f"sampling parameter '{name}': {error}") from None
    return request


def _structured(value: object, check_grammar: Callable[[str], str]) -> dict[str, Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise InvalidRequestError(f"structured_outputs is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidRequestError("structured_outputs must be a JSON object")
    if isinstance(value.get("grammar"), str):
        return {"grammar": value["grammar"]}
    if value.get("json_object") is True:
        return {"grammar": _json_grammar({"type": "object"}, check_grammar)}
    if "json" in value:
        return {"grammar": _json_grammar(value["json"], check_grammar)}
    raise InvalidRequestError(f"structured_outputs: no supported kind among {sorted(value)}")


def _json_grammar(schema: object, check_grammar: Callable[[str], str]) -> str:
    """Gives the grammar of a schema. The engine would drop a schema that it cannot compile."""
    if isinstance(schema, str):
        try:
            schema = json.loads(schema)
        except ValueError as error:
            raise InvalidRequestError(f"structured_outputs: the schema is not JSON: {error}") from None
    if isinstance(schema, dict):
        # Free white space lets a small model print blanks until max_tokens.
        schema = {"x-guidance": {"whitespace_flexible": False}, **schema}
    grammar = "%llguidance {}\nstart: %json " + json.dumps(schema)
    problem = check_grammar(grammar)
    if problem:
        reason = problem.partition("\n")[0]
        raise InvalidRequestError(f"structured_outputs: the schema cannot be compiled: {reason}")
    return grammar


def _number(low: float, high: float, *, above: bool = False) -> Callable[[Any], float]:
    def convert(value: Any) -> float:
        number = _plain(value)
        if not low <= number <= high or (above and number == low):
            raise ValueError(f"must be between {low:g} and {high:g}")
        return number

    return convert


def _integer(low: int, high: int) -> Callable[[Any], int]:
    def convert(value: Any) -> int:
        number = _plain(value)
        if number != int(number) or not low <= number <= high:
            raise ValueError(f"must be a whole number between {low} and {high}")
        return int(value)

    return convert


def _plain(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("must be a number")
    if not math.isfinite(value):
        raise ValueError("must be finite")
    return value


def _texts(value: Any) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) and text for text in texts):
        raise TypeError("must be a list of texts that are not empty")
    return texts


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError("must be true or false")
    return value


def _bias(value: Any) -> list[list[float]]:
    """Turns a map of token id to bias into llama.cpp's list of pairs."""
    if not isinstance(value, dict):
        raise TypeError("must be an object of token ids")
    bias = _number(-100, 100)
    return [[int(token), bias(amount)] for token, amount in value.items()]


def _preserved(skip: Any) -> list[str]:
    """Special tokens that are part of an answer's text: of them all, those that open or close a call of a tool."""
    return [] if _flag(skip) else ["<|python_tag|>", "<tool_call>", "</tool_call>"]


_INT32: Final = 2**31 - 1

# vLLM's name: (llama.cpp's field, what converts the value)
_PARAMETERS: Final[Mapping[str, tuple[str, Callable[[Any], Any]]]] = {
    "max_tokens": ("max_tokens", _integer(1, _INT32)),
    "temperature": ("temperature", _number(0, 100)),
    "top_p": ("top_p", _number(0, 1, above=True)),
    "top_k": ("top_k", lambda value: max(_integer(-1, _INT32)(value), 0)),
    "min_p": ("min_p", _number(0, 1)),
    "seed": ("seed", lambda value: _integer(-(2**63), 2**63 - 1)(value) % 2**32),
    "stop": ("stop", _texts),
    "presence_penalty": ("presence_penalty", _number(-2, 2)),
    "frequency_penalty": ("frequency_penalty", _number(-2, 2)),
    "repetition_penalty": ("repeat_penalty", _number(0, 2, above=True)),
    "ignore_eos": ("ignore_eos", _flag),
    "skip_special_tokens": ("preserved_tokens", _preserved),
    "logprobs": ("logprobs", _integer(0, 20)),
    "logit_bias": ("logit_bias", _bias),
}
