"""What `mycel ask` makes of an answer."""

from __future__ import annotations

from mycel.chat.v1.chat_service_pb2 import CallSummary
from mycel.chat.v1.types_pb2 import Role, Usage

from services.mesh.commands.ask import Answer, harmless, question


def test_a_terminal_is_not_steered_by_an_answer() -> None:
    assert harmless("one\x1b[2Jtwo\r\n\tthr\x07ee \x9b31m 🍄 é") == "one[2Jtwo\n\tthree 31m 🍄 é"


def test_the_question_carries_instructions_first() -> None:
    request = question("why?", model="tiny", system="be brief")
    said = [(message.role, message.content[0].text) for message in request.input.messages]
    assert (request.model, said) == ("tiny", [(Role.ROLE_SYSTEM, "be brief"), (Role.ROLE_USER, "why?")])


def test_the_line_tells_what_a_hit_saved() -> None:
    summary = CallSummary(cache="exact", tier="low", model="gpt", provider="openai", saved_usd=0.002, trace_id="ab")
    answer = Answer(["hi"], Usage(prompt_tokens=3, completion_tokens=4), summary, 0.0012, 0.0034)
    assert answer.line() == (
        "cache exact · tier low · gpt (openai) · 3 + 4 tokens · $0.000000 (saved $0.002000) · "
        "3 ms (first text 1 ms) · trace ab"
    )
    assert answer.to_json()["text"] == "hi"


def test_the_line_tells_of_more_than_one_attempt() -> None:
    summary = CallSummary(cache="miss", tier="low", model="claude", provider="anthropic", attempts=2)
    assert " · claude (anthropic) · 2 attempts · " in Answer([], Usage(), summary).line()
