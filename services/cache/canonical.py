"""The canonical byte form of a request, and the hashes made from it.

Two requests are the same request exactly when their canonical forms are equal. The form can be written by any language
(golden vectors: tests/golden/canonical_hash.json):

| value | bytes |
|---|---|
| text | `s`, its length in bytes in decimal, `:`, its UTF-8 bytes in Unicode normal form C |
| bytes | `b`, the length in decimal, `:`, the bytes |
| integer | `i`, decimal digits with `-` when negative, `;` |
| number | `d`, 16 lower-case hexadecimal digits of the big-endian IEEE 754 double (-0 as 0), `;` |
| truth | `t` or `f` |
| list | `[`, the items, `]` |
| record | `{`, for each field its name as a text and its value, in the byte order of the names, `}` |

A request is the record of its ChatInput (mycel.chat.v1) with three fields added: `form` (the integer 1), `model` and
`scope`. A message is the record of its fields, under their names in the contract, with these rules:

- A field is left out when it is absent, empty, or an empty record or list.
- It is also left out when it says what its absence means: `n` 1, `json_object` false, a `presence_penalty` or
  `frequency_penalty` of 0, a tool choice of AUTO, `top_logprobs` without `logprobs`. Other numbers that a caller set
  are kept even when a model has the same default, because defaults differ between models.
- An enum is the text of its name, such as `ROLE_USER`.
- `stop` is sorted by bytes and has no repeats; `logit_bias` is a list of `[token, bias]` by token.
- A picture's `data` is replaced by `sha256`, the hash of its bytes.
- JSON texts (schemas, arguments) are texts: two spellings of one JSON are two requests.
"""

from __future__ import annotations

import hashlib
import math
import struct
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from mycel.chat.v1 import types_pb2 as chat

from services.common.errors import invalid

FORM: Final = 1
"""The form's version. A change of the form makes every stored exact entry unreachable."""

Value: TypeAlias = "str | bytes | int | float | Iterable[Value] | Mapping[str, Value]"
"""What can be written."""

Record: TypeAlias = dict[str, Any]
"""A message on its way to the canonical form: values by field name."""

_EMPTY: Final = (b"s0:", b"b0:", b"[]", b"{}")
"""What a record does not mention."""


@dataclass(frozen=True, slots=True)
class CanonicalRequest:
    """A request's hashes."""

    exact: str
    """Hexadecimal sha256 of the canonical form: equal for the same request."""
    question: str | None
    """The user's text, in normal form C, when the request may be matched by meaning; else None."""
    surroundings: str
    """Hexadecimal sha256 of the form without the question: equal for requests that differ in nothing but the question.
    Empty when `question` is None."""


def canonicalize(*, model: str, scope: str, request: chat.ChatInput) -> CanonicalRequest:
    """Makes a request's hashes.

    Args:
        model: the model or route that was asked for.
        scope: the cache scope.
        request: the conversation and how to answer it.

    Raises:
        MycelError: INVALID_ARGUMENT, when a number is NaN or infinite.
    """
    record: Record = {**_record(request), "form": FORM, "model": model, "scope": scope}
    try:
        exact = hashlib.sha256(encode(record)).hexdigest()
    except ValueError as error:
        raise invalid("input.parameters", str(error)) from error
    question = question_of(request)
    if question is None:
        return CanonicalRequest(exact, None, "")
    record["messages"][-1]["content"] = []
    surroundings = hashlib.sha256(encode(record)).hexdigest()
    return CanonicalRequest(exact, unicodedata.normalize("NFC", question), surroundings)


def question_of(request: chat.ChatInput) -> str | None:
    """Gives the user's text of a single-turn request, or None for any other.

    Single-turn is: instructions (system or developer), if any, then one user message that is one text.
    """
    if not request.messages:
        return None
    *before, last = request.messages
    if any(message.role not in (chat.ROLE_SYSTEM, chat.ROLE_DEVELOPER) for message in before):
        return None
    if last.role != chat.ROLE_USER or len(last.content) != 1 or last.content[0].WhichOneof("part") != "text":
        return None
    return last.content[0].text if last.content[0].text.strip() else None


def encode(value: Value) -> bytes:  # noqa: PLR0911 - one return a kind of value
    """Writes a value in the canonical form.

    Raises:
        ValueError: a number is NaN or infinite.
    """
    match value:
        case str():
            data = unicodedata.normalize("NFC", value).encode()
            return b"s%d:%b" % (len(data), data)
        case bytes():
            return b"b%d:%b" % (len(value), value)
        case bool():
            return b"t" if value else b"f"
        case int():
            return b"i%d;" % value
        case float():
            if not math.isfinite(value):
                raise ValueError("a number is not finite")
            return b"d%b;" % struct.pack(">d", value + 0.0).hex().encode()
        case Mapping():
            fields = ((encode(name), encode(value[name])) for name in sorted(value))
            return b"{%b}" % b"".join(name + data for name, data in fields if data not in _EMPTY)
        case _:
            return b"[%b]" % b"".join(map(encode, value))


def _record(message: Message) -> Record:
    record = {field.name: _field(field, value) for field, value in message.ListFields()}
    adjust = _RULES.get(message.DESCRIPTOR.full_name)
    if adjust is not None:
        adjust(record)
    return record


def _field(field: FieldDescriptor, value: Any) -> Value:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return [[key, value[key]] for key in sorted(value)]
    if field.is_repeated:
        return [_single(field, item) for item in value]
    return _single(field, value)


def _single(field: FieldDescriptor, value: Any) -> Value:
    if field.message_type is not None:
        return _record(value)
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return known.name if known else int(value)
    result: Value = value
    return result


def _generation_parameters(record: Record) -> None:
    if record.get("n") == 1:
        del record["n"]
    if not record.get("logprobs"):
        record.pop("top_logprobs", None)
    for name in ("presence_penalty", "frequency_penalty"):
        if record.get(name) == 0:
            del record[name]
    if "stop" in record:
        record["stop"] = sorted({unicodedata.normalize("NFC", str(text)) for text in record["stop"]}, key=str.encode)


def _image(record: Record) -> None:
    data = record.pop("data", None)
    if isinstance(data, bytes):
        record["sha256"] = hashlib.sha256(data).digest()


def _response_format(record: Record) -> None:
    if record.get("json_object") is False:
        del record["json_object"]


def _tool_choice(record: Record) -> None:
    mode = record.pop("mode", None)
    if mode not in (None, "TOOL_CHOICE_MODE_AUTO"):
        record["mode"] = mode


_RULES: Final[Mapping[str, Callable[[Record], None]]] = {
    chat.GenerationParameters.DESCRIPTOR.full_name: _generation_parameters,
    chat.Image.DESCRIPTOR.full_name: _image,
    chat.ResponseFormat.DESCRIPTOR.full_name: _response_format,
    chat.ToolChoice.DESCRIPTOR.full_name: _tool_choice,
}
"""What is done to a message's record besides writing down its fields."""
