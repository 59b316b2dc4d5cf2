"""Everything that goes wrong at a provider has its reason, over all kinds."""

from __future__ import annotations

import logging

import pytest

from tests.fakes.wire_server import Reply, wire_server
from tests.integration.provider.conftest import Mesh, question, texts
from tests.integration.provider.dialects import ALL, CANARY, EVERYWHERE, Dialect

REFUSALS = [
    pytest.param(dialect, reason, reply, id=f"{dialect}-{reason}-{place}")
    for dialect in ALL
    for reason in {*EVERYWHERE, *dialect.refusals}
    for place, reply in enumerate([*EVERYWHERE.get(reason, ()), *dialect.refusals.get(reason, ())])
]


@pytest.mark.parametrize(("dialect", "reason", "reply"), sorted(REFUSALS, key=lambda param: str(param.id)))
async def test_refusals_have_reasons(mesh: Mesh, reason: str, reply: Reply) -> None:
    mesh.server.replies = [reply]
    error = await mesh.fail()
    assert error.reason_name == reason
    assert error.metadata["provider"] == "p"
    assert len(mesh.server.received) == 1, "the SDK must not retry"
    mesh.server.replies = [mesh.dialect.say("fine", finish=mesh.dialect.finishes["stop"])]
    assert texts(await mesh.ask()) == "fine"


async def test_a_time_to_come_back_is_passed_on(mesh: Mesh) -> None:
    mesh.server.replies = [mesh.dialect.refusals["RATE_LIMITED"][0]]
    assert (await mesh.fail()).retry_after == pytest.approx(7)


async def test_what_is_left_is_told(mesh: Mesh) -> None:
    limits = {
        "x-ratelimit-limit-requests": "100",
        "x-ratelimit-remaining-requests": "7",
        "x-ratelimit-reset-requests": "1m2s",
        "x-ratelimit-remaining-tokens": "900",
    }
    reply = mesh.dialect.say("a", finish=mesh.dialect.finishes["stop"], headers=limits)
    mesh.server.replies = [reply]
    await mesh.ask()
    mesh.server.replies = [mesh.dialect.refusals["RATE_LIMITED"][0]]
    await mesh.fail()
    status = (await mesh.models()).providers[0]
    assert (status.requests.remaining, status.requests.limit, status.tokens.remaining) == (7, 100, 900)
    assert status.requests.reset.seconds - status.requests.told.seconds in (61, 62, 63)
    assert status.last_failure.reason == "RATE_LIMITED"
    assert status.last_failure.time.seconds > 0


async def test_a_connection_that_breaks_after_the_first_piece(mesh: Mesh) -> None:
    mesh.server.replies = [mesh.dialect.begun()]
    error = await mesh.fail()
    assert error.reason_name == "BACKEND_UNAVAILABLE"


async def test_garbage_is_malformed(mesh: Mesh) -> None:
    mesh.server.replies = [mesh.dialect.garbage]
    assert (await mesh.fail()).reason_name == "BACKEND_MALFORMED"


async def test_an_answer_that_breaks_off(mesh: Mesh) -> None:
    mesh.server.replies = [mesh.dialect.begun(whole=True)]
    assert (await mesh.fail()).reason_name == "BACKEND_MALFORMED"


async def test_an_answer_that_dies(mesh: Mesh) -> None:
    mesh.server.replies = [mesh.dialect.died]
    error = await mesh.fail()
    assert error.reason_name == "BACKEND_UNAVAILABLE"
    assert "died" in error.message


async def test_a_flood_is_refused(mesh: Mesh) -> None:
    form = mesh.dialect.begun().content_type
    mesh.server.replies = [Reply(content_type=form, parts=['data: "'], flood=100)]
    error = await mesh.fail()
    assert error.reason_name == "BACKEND_MALFORMED"
    assert "MiB" in error.message


async def test_a_flood_of_an_error_is_refused(mesh: Mesh) -> None:
    mesh.server.replies = [Reply(400, flood=100)]
    error = await mesh.fail()
    assert error.reason_name == "BACKEND_MALFORMED"


async def test_a_packed_answer_is_refused(mesh: Mesh) -> None:
    form = mesh.dialect.begun().content_type
    mesh.server.replies = [Reply(content_type=form, body=b"\x1f\x8b", headers={"content-encoding": "gzip"})]
    assert (await mesh.fail()).reason_name == "BACKEND_MALFORMED"


async def test_a_packed_error_keeps_its_status(mesh: Mesh) -> None:
    mesh.server.replies = [Reply(429, body=b"\x1f\x8b", headers={"content-encoding": "gzip", "retry-after": "3"})]
    error = await mesh.fail()
    assert (error.reason_name, error.retry_after) == ("RATE_LIMITED", pytest.approx(3))


async def test_a_redirect_is_not_followed(mesh: Mesh) -> None:
    async with wire_server(Reply(body=b"{}")) as elsewhere:
        for status in (301, 302, 307, 308):
            mesh.server.replies = [Reply(status, body=b"", headers={"location": f"{elsewhere.url}/stolen"})]
            error = await mesh.fail()
            assert error.reason_name == "BACKEND_UNAVAILABLE"
            assert "redirect" in error.message
        assert not elsewhere.received


async def test_keys_and_conversations_are_nowhere_to_be_read(mesh: Mesh, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secret = "the formula is canary-yellow"
    good = mesh.dialect.say("fine", finish=mesh.dialect.finishes["stop"])
    for reply in (mesh.dialect.told_secret, mesh.dialect.garbage, Reply(drop=True), mesh.dialect.died):
        mesh.server.replies = [reply]
        error = await mesh.fail(question(secret))
        assert CANARY not in f"{error!r} {error} {error.metadata}"
    mesh.server.replies = [good]
    await mesh.ask(question(secret))
    spans = mesh.spans.get_finished_spans()
    assert len(spans) >= 5
    for place in (caplog.text, "".join(span.to_json() for span in spans), str(await mesh.models())):
        assert CANARY not in place
        assert secret not in place


def test_a_dialect_names_every_kind() -> None:
    assert {dialect.kind for dialect in ALL} == {"openai", "azure_openai", "anthropic", "ollama"}
    assert all(isinstance(dialect, Dialect) for dialect in ALL)
