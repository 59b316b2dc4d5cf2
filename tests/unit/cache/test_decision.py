"""The rule for near questions, and which answers may be kept."""

from __future__ import annotations

import pytest
from mycel.cache.v1 import cache_service_pb2 as pb
from mycel.chat.v1 import types_pb2 as chat

from services.cache.cache import may_be_given_again
from services.cache.decision import Candidate, ThresholdRule
from services.cache.entries import EntryInfo
from tests.unit.cache.model import answered


def near(question: str, similarity: float) -> Candidate:
    return Candidate(EntryInfo(question, "a", "", "s", question, "m", 1, 0, 1), similarity)


def test_nothing_is_near():
    decision = ThresholdRule(0.9).decide("Who makes Claude?", [])
    assert (decision.served, decision.reason, decision.nearest) == (None, "no_entry", None)


def test_not_near_enough():
    candidate = near("Who built Claude?", 0.89)
    decision = ThresholdRule(0.9).decide("Who makes Claude?", [candidate])
    assert (decision.served, decision.reason, decision.nearest) == (None, "below_threshold", candidate)


def test_at_the_threshold_it_is_served():
    candidate = near("Who built Claude?", 0.9)
    decision = ThresholdRule(0.9).decide("Who makes Claude?", [candidate])
    assert (decision.served, decision.reason) == (candidate, "")


def test_behind_a_refused_one_the_next_is_served():
    refused, right = near("Who makes Gemini?", 0.97), near("Who built Claude?", 0.95)
    decision = ThresholdRule(0.9).decide("Who makes Claude?", [refused, right])
    assert (decision.served, decision.nearest) == (right, refused)


def test_the_guard_gives_its_reason():
    decision = ThresholdRule(0.9).decide("Who makes Claude?", [near("Who makes Gemini?", 0.97)])
    assert (decision.served, decision.reason) == (None, "guard")


def changed(**fields: object) -> pb.StoredAnswer:
    answer = answered("It is so.")
    for name, value in fields.items():
        setattr(answer.choices[0], name, value)
    return answer


def refused() -> pb.StoredAnswer:
    answer = answered("")
    answer.choices[0].message.refusal = "I will not."
    return answer


def calling() -> pb.StoredAnswer:
    answer = answered("Let me see.")
    answer.choices[0].message.tool_calls.add(name="weather")
    return answer


def half() -> pb.StoredAnswer:
    answer = answered("One.")
    answer.choices.add().CopyFrom(answered("Two").choices[0])
    answer.choices[1].finish_reason = chat.FINISH_REASON_LENGTH
    return answer


def test_a_whole_answer_may_be_given_again():
    assert may_be_given_again(answered("It is so."))


@pytest.mark.parametrize(
    "answer",
    [
        pb.StoredAnswer(),
        answered(""),
        changed(finish_reason=chat.FINISH_REASON_LENGTH),
        changed(finish_reason=chat.FINISH_REASON_CONTENT_FILTER),
        changed(finish_reason=chat.FINISH_REASON_TOOL_CALLS),
        changed(finish_reason=chat.FINISH_REASON_UNSPECIFIED),
        refused(),
        calling(),
        half(),
    ],
)
def test_what_is_not_whole_may_not(answer: pb.StoredAnswer):
    assert not may_be_given_again(answer)
