"""Going on after an answer that broke off elsewhere, with every kind of provider."""

from __future__ import annotations

from mycel.completion.v1 import completion_service_pb2 as completion

from tests.integration.provider.conftest import Mesh, question, texts

_SENT = "The quick brown "


async def test_a_model_gets_the_beginning_of_its_answer(mesh: Mesh) -> None:
    request = completion.StreamCompletionRequest(model="m", input=question(), continue_after=_SENT)
    events = [event async for event in mesh.stub.StreamCompletion(request, timeout=20)]
    assert texts(events) == "hello world"
    sent = mesh.server.received[0].body["messages"]
    by_prefix = sent[-1]["role"] == "assistant"
    assert events[0].started.continues_exactly == by_prefix
    answer = sent[-1] if by_prefix else sent[-2]
    assert answer["role"] == "assistant"
    assert "The quick brown" in str(answer["content"])
    if not by_prefix:
        assert "Go on with the answer" in str(sent[-1]["content"])


async def test_a_new_answer_claims_no_continuation(mesh: Mesh) -> None:
    events = await mesh.ask()
    assert not events[0].started.continues_exactly
    assert mesh.server.received[0].body["messages"][-1]["role"] == "user"
