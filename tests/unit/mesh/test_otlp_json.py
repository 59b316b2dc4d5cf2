"""OTLP's JSON form: ids are hexadecimal, unlike anywhere else in protobuf's JSON."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.mesh.otlp.json_format import OtlpJsonError, parse_export
from services.mesh.otlp.spans import read_spans

TRACE_ID = "5b8efff798038103d269b633813fc60c"
SPAN_ID = "eee19b7ec3c1b174"
PARENT_ID = "eee19b7ec3c1b173"


def export(**span: object) -> bytes:
    """An export of one span, as the C++ SDK inside Triton writes it."""
    values = {
        "traceId": TRACE_ID,
        "spanId": SPAN_ID,
        "parentSpanId": PARENT_ID,
        "name": "InferRequest",
        "kind": 2,
        "startTimeUnixNano": "1700000000000000000",
        "endTimeUnixNano": "1700000000004000000",
        "attributes": [
            {"key": "triton.model_name", "value": {"stringValue": "llama"}},
            {"key": "triton.model_version", "value": {"intValue": "1"}},
        ],
        **span,
    }
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "triton"}}]}
    return json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [values]}]}]}).encode()


def test_ids_are_hexadecimal() -> None:
    (span,) = read_spans(parse_export(export()))
    assert (span.trace_id, span.span_id, span.parent_id) == (TRACE_ID, SPAN_ID, PARENT_ID)
    assert (span.service, span.name, span.kind) == ("triton", "InferRequest", "server")
    assert span.end_ns - span.start_ns == 4_000_000
    assert span.attributes == {"triton.model_name": "llama", "triton.model_version": 1}


def test_ids_may_be_upper_case_and_links_have_ids_too() -> None:
    link = {"traceId": TRACE_ID.upper(), "spanId": SPAN_ID.upper()}
    parsed = parse_export(export(traceId=TRACE_ID.upper(), links=[link]))
    span = parsed.resource_spans[0].scope_spans[0].spans[0]
    assert span.trace_id.hex() == TRACE_ID
    assert span.links[0].span_id.hex() == SPAN_ID


def test_a_span_without_parent_is_a_root() -> None:
    for parent in ("", "0000000000000000"):
        (span,) = read_spans(parse_export(export(parentSpanId=parent)))
        assert span.parent_id == ""


def test_unknown_fields_are_passed_over() -> None:
    assert list(read_spans(parse_export(export(flags=256, somethingNew={"a": 1}))))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[]", "resourceSpans"),
        (export(traceId="xyz"), "traceId"),
        (export(spanId="abcd"), "16 digits"),
        (export(spanId=7), "not hexadecimal"),
        (export(startTimeUnixNano="soon"), "startTimeUnixNano"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_what_is_wrong_is_told(text: bytes, said: str) -> None:
    with pytest.raises(OtlpJsonError, match=said):
        parse_export(text)


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_any_json_is_parsed_or_refused(value: object) -> None:
    for body in (value, {"resourceSpans": value}, {"resourceSpans": [{"scopeSpans": value}]}):
        try:
            parse_export(json.dumps(body).encode())
        except OtlpJsonError as error:
            assert str(error)
