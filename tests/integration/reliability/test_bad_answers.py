"""Whatever a provider sends, the caller gets a right answer or a typed error, and no key comes out anywhere."""

from __future__ import annotations

import logging

import pytest

from tests.fakes.wire_server import Reply, json_reply, wire_server
from tests.integration.provider.dialects import CANARY
from tests.integration.reliability.conftest import Pair, question, text_of

_PAGE = b"<html><body>Sign in to the Wi-Fi</body></html>"
_USELESS = {
    "an HTML page": Reply(content_type="text/html", body=_PAGE),
    "an HTML page that says it is JSON": Reply(content_type="application/json", body=_PAGE),
    "a picture": Reply(content_type="image/png", body=b"\x89PNG"),
    "nothing": Reply(content_type="application/json", body=b""),
    "another JSON": json_reply(200, {"result": [1, 2, 3]}),
    "a packed answer": Reply(content_type="text/event-stream", body=b"\x1f\x8b", headers={"content-encoding": "gzip"}),
    "a hang-up": Reply(drop=True),
    "a page of an error": Reply(502, "text/html", body=_PAGE),
    "a refused key": json_reply(401, {"error": {"message": f"wrong key {CANARY}"}}),
    "a spent quota": json_reply(429, {"error": {"message": "quota", "code": "insufficient_quota"}}),
    "no such model": json_reply(404, {"error": {"message": "model not found"}}),
}


@pytest.mark.parametrize("reply", _USELESS.values(), ids=_USELESS.keys())
async def test_the_next_model_answers(pair: Pair, reply: Reply) -> None:
    pair.bad.replies = [reply]
    answer = await pair.ask()
    assert (text_of(answer), answer.summary.model, answer.summary.attempts) == ("the good one", "good", 2)
    assert len(pair.bad.received) == 1


async def test_a_flood_is_not_waited_for(pair: Pair) -> None:
    form = pair.dialect.begun().content_type
    pair.bad.replies = [Reply(content_type=form, parts=['data: "'], flood=100)]
    answer = await pair.ask()
    assert (text_of(answer), answer.summary.attempts) == ("the good one", 2)


async def test_no_key_goes_to_another_host(pair: Pair) -> None:
    async with wire_server(Reply(body=b"{}")) as elsewhere:
        pair.bad.replies = [Reply(307, body=b"", headers={"location": f"{elsewhere.url}/v1/chat/completions"})]
        answer = await pair.ask()
        assert (text_of(answer), answer.summary.attempts) == ("the good one", 2)
        assert not elsewhere.received


async def test_what_is_only_odd_is_passed_on(pair: Pair) -> None:
    say, finishes = pair.dialect.say, pair.dialect.finishes
    value = question("hello")
    value.tools.add(name="f")
    pair.bad.replies = [
        say("odd", finish=finishes["unknown"]),
        pair.dialect.counted(-10, -7, -4, -3),
        pair.dialect.call([("call_1", "f", ['{"a": ', "oops"])]),
    ]
    unknown, negative, broken = await pair.ask(), await pair.ask(), await pair.ask(value=value)
    assert (text_of(unknown), text_of(negative), negative.usage.completion_tokens) == ("odd", "x", 0)
    [call] = broken.choices[0].message.tool_calls
    assert (call.name, call.arguments_json) == ("f", '{"a": oops')
    assert [answer.summary.attempts for answer in (unknown, negative, broken)] == [1, 1, 1]
    assert not pair.good.received


async def test_no_key_and_no_prompt_comes_out(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secret = "the formula is canary-yellow"
    for reply in (pair.dialect.told_secret, pair.dialect.garbage, pair.dialect.died, Reply(drop=True)):
        error = await pair.fail(reply, secret)
        assert CANARY not in f"{error!r} {error} {error.metadata}"
        assert error.reason_name.startswith("BACKEND_")
    await pair.ask(value=question(secret))
    spans = pair.spans.get_finished_spans()
    assert len(spans) >= 10
    for place in (caplog.text, "".join(span.to_json() for span in spans)):
        assert CANARY not in place
        assert secret not in place


async def test_a_refused_key_is_the_operators_business(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    pair.bad.replies = [pair.dialect.told_secret]
    assert text_of(await pair.ask()) == "the good one"
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [(record.reason, record.provider) for record in errors] == [("BACKEND_AUTH", "bad")]  # type: ignore[attr-defined]
