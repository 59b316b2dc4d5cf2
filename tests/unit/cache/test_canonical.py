"""The canonical form: golden vectors, and what may and may not change a hash."""

from __future__ import annotations

import base64
import hashlib
import json
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st
from mycel.chat.v1 import types_pb2 as chat

from services.cache.canonical import CanonicalRequest, canonicalize, encode
from services.common.errors import MycelError
from tests.unit.cache.model import asked, system, user

VECTORS = json.loads((Path(__file__).parents[2] / "golden" / "canonical_hash.json").read_text(encoding="utf-8"))[
    "vectors"
]


def hashes(request: chat.ChatInput, model: str = "auto", scope: str = "") -> CanonicalRequest:
    return canonicalize(model=model, scope=scope, request=request)


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_golden_vectors(vector: dict[str, Any]):
    request = json_format.ParseDict(vector["input"], chat.ChatInput())
    result = hashes(request, vector["model"], vector["scope"])
    assert result.exact == vector["sha256"]
    assert (result.surroundings or None) == vector["surroundings_sha256"]
    assert hashlib.sha256(base64.b64decode(vector["canonical_base64"])).hexdigest() == vector["sha256"]


def test_the_form_of_each_kind_of_value():
    record = {"b": [1, -2.0, True, False], "a": "é", "none": "", "empty": [], "nothing": {}, "c": b"\x00", "z": -0.0}
    expected = b"{s1:as2:\xc3\xa9s1:b[i1;dc000000000000000;tf]s1:cb1:\x00s1:zd0000000000000000;}"
    assert encode(record) == expected


@given(st.text())
def test_spellings_of_one_text_are_one_request(text: str):
    text = text.encode("utf-8", "ignore").decode()
    composed = hashes(asked(unicodedata.normalize("NFC", text)))
    assert hashes(asked(unicodedata.normalize("NFD", text))) == composed


@given(st.text(), st.text())
def test_different_texts_are_different_requests(one: str, other: str):
    one, other = (unicodedata.normalize("NFC", text.encode("utf-8", "ignore").decode()) for text in (one, other))
    same = hashes(asked(one)).exact == hashes(asked(other)).exact
    assert same == (one == other)


@given(st.lists(st.text(alphabet="ab:s1", max_size=4), max_size=4), st.lists(st.text(alphabet="ab:s1"), max_size=4))
def test_no_two_lists_of_texts_are_written_alike(one: list[str], other: list[str]):
    assert (encode(one) == encode(other)) == (one == other)


@given(st.dictionaries(st.integers(-100, 100_000), st.floats(-100, 100), max_size=6), st.randoms())
def test_the_order_of_a_map_does_not_matter(bias: dict[int, float], random: Any):
    shuffled = list(bias.items())
    random.shuffle(shuffled)
    one, other = asked("Hi"), asked("Hi")
    for token, value in bias.items():
        one.parameters.logit_bias[token] = value
    for token, value in shuffled:
        other.parameters.logit_bias[token] = value
    assert hashes(one).exact == hashes(other).exact


def test_model_and_scope_count():
    plain = hashes(asked("Hi"))
    for other in (hashes(asked("Hi"), model="gpt-4o"), hashes(asked("Hi"), scope="support")):
        assert other.exact != plain.exact
        assert other.surroundings != plain.surroundings


def test_the_question_alone_leaves_the_surroundings_alone():
    one, other = hashes(asked("What is a cache?")), hashes(asked("What is a router?"))
    assert one.surroundings == other.surroundings
    assert one.exact != other.exact


@pytest.mark.parametrize(
    "change",
    [
        lambda request: request.messages.insert(0, system("Be brief.")),
        lambda request: setattr(request.messages[-1], "name", "ann"),
        lambda request: setattr(request.parameters, "temperature", 0.0),
        lambda request: setattr(request.response_format, "json_object", True),
        lambda request: request.tools.add(name="weather"),
    ],
)
def test_everything_but_the_question_is_in_the_surroundings(change: Any):
    plain, changed = asked("Hi"), asked("Hi")
    change(changed)
    assert hashes(plain).surroundings != hashes(changed).surroundings != ""


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [system("Be brief.")],
        [user("Hi"), user("again")],
        [user("Hi"), chat.Message(role=chat.ROLE_ASSISTANT), user("again")],
        [chat.Message(role=chat.ROLE_USER)],
        [user("  \n ")],
        [chat.Message(role=chat.ROLE_USER, content=[chat.ContentPart(text="a"), chat.ContentPart(text="b")])],
        [chat.Message(role=chat.ROLE_USER, content=[chat.ContentPart(image=chat.Image(url="https://a/b"))])],
    ],
)
def test_only_single_turns_of_one_text_are_matched_by_meaning(messages: list[chat.Message]):
    result = hashes(chat.ChatInput(messages=messages))
    assert result.question is None
    assert result.surroundings == ""


def test_numbers_that_are_none_are_refused():
    request = asked("Hi")
    request.parameters.temperature = float("nan")
    with pytest.raises(MycelError) as caught:
        hashes(request)
    assert caught.value.reason_name == "INVALID_ARGUMENT"


def test_every_field_of_the_contract_changes_the_hash():
    """A field that is added to the contract and forgotten here would give one request's answer to another."""
    for name, request in requests_with_each_field():
        assert hashes(request).exact != hashes(chat.ChatInput(messages=[user("Hi")])).exact, name


def requests_with_each_field() -> Iterator[tuple[str, chat.ChatInput]]:
    """One request for each field of ChatInput and of the messages in it, with that field set."""
    for field in chat.ChatInput.DESCRIPTOR.fields:
        for name, value in messages_with_each_field(chat.ChatInput, field):
            value.messages.insert(0, user("Hi"))
            yield name, value


def messages_with_each_field(kind: Any, field: FieldDescriptor) -> Iterator[tuple[str, Any]]:
    path = f"{kind.DESCRIPTOR.name}.{field.name}"
    if field.message_type is None or field.message_type.GetOptions().map_entry:
        yield path, set_simple(kind(), field)
        return
    inner = field.message_type._concrete_class
    for inner_field in field.message_type.fields:
        for name, value in messages_with_each_field(inner, inner_field):
            message = kind()
            target = getattr(message, field.name)
            target.append(value) if field.is_repeated else target.CopyFrom(value)
            yield f"{path}/{name}", message


def set_simple(message: Message, field: FieldDescriptor) -> Message:
    values = {
        FieldDescriptor.CPPTYPE_STRING: b"x" if field.type == FieldDescriptor.TYPE_BYTES else "x",
        FieldDescriptor.CPPTYPE_BOOL: True,
        FieldDescriptor.CPPTYPE_DOUBLE: 0.5,
        FieldDescriptor.CPPTYPE_INT32: 3,
        FieldDescriptor.CPPTYPE_INT64: 3,
        FieldDescriptor.CPPTYPE_ENUM: 3,
    }
    if field.message_type is not None:
        getattr(message, field.name)[5] = 0.5
    elif field.is_repeated:
        getattr(message, field.name).append(values[field.cpp_type])
    else:
        setattr(message, field.name, values[field.cpp_type])
    if field.name == "top_logprobs":  # has no meaning alone
        message.logprobs = True
    return message
