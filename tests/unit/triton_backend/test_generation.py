"""One answer: chunks, counts, cancellation and failures of the engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from mycel_llamacpp.failures import EngineError, InvalidRequestError, RequestCancelledError
from mycel_llamacpp.generation import Chunk, Generation


class ScriptedEngine:
    """An engine that gives these chunks and remembers how far it got."""

    def __init__(self, chunks: Sequence[dict]) -> None:
        self.chunks = chunks
        self.given = 0
        self.request: dict = {}

    def handle_completions(self, request: dict, on_chunk: Callable[[dict], bool]) -> None:
        self.request = request
        for chunk in self.chunks:
            self.given += 1
            if on_chunk(chunk):
                return


def text(piece: str, finish: str | None = None, **more) -> dict:
    return {"choices": [{"text": piece, "finish_reason": finish, "logprobs": None}], **more}


PROGRESS = {"choices": [{"text": ""}], "prompt_progress": {"total": 7}}
LAST = text("", "stop", usage={"prompt_tokens": 7, "completion_tokens": 5})


def run(chunks: Sequence[dict], is_cancelled: Callable[[], bool] = lambda: False) -> tuple[list[Chunk], Generation]:
    taken: list[Chunk] = []
    generation = Generation(taken.append, is_cancelled)
    generation.run(ScriptedEngine(chunks), "prompt", {})
    return taken, generation


def test_counts_add_up_to_the_engines_own_at_the_end() -> None:
    taken, generation = run([PROGRESS, text("a"), text("🍄"), LAST])
    assert [chunk.text for chunk in taken] == ["a", "🍄", ""]
    assert [chunk.prompt_tokens for chunk in taken] == [7, 7, 7]
    assert sum(chunk.new_tokens for chunk in taken) == generation.tokens == 5
    assert generation.finish_reason == "stop"


def test_cancellation_stops_the_engine() -> None:
    engine = ScriptedEngine([text("a")] * 100)
    generation = Generation(lambda _: None, lambda: True)
    with pytest.raises(RequestCancelledError):
        generation.run(engine, "prompt", {})
    assert engine.given == 1


def test_failure_to_pass_a_chunk_on_stops_the_engine_and_is_raised() -> None:
    def fail(_chunk: Chunk) -> None:
        raise BrokenPipeError

    engine = ScriptedEngine([text("a")] * 100)
    with pytest.raises(BrokenPipeError):
        Generation(fail, lambda: False).run(engine, "prompt", {})
    assert engine.given == 1


@pytest.mark.parametrize(
    ("chunks", "failure"),
    [
        ([{"error": {"code": 400, "message": "too long"}}], InvalidRequestError),
        ([{"error": {"code": 500, "message": "oops"}}], EngineError),
        ([{"error": {}}], EngineError),
        ([text("a")], EngineError),
        ([], EngineError),
    ],
)
def test_failures_of_the_engine(chunks: list[dict], failure: type[Exception]) -> None:
    with pytest.raises(failure):
        run(chunks)


def test_log_probabilities_name_the_sampled_token_first() -> None:
    chunk = text("a")
    facts = {"id": 3, "token": "a", "bytes": [97], "logprob": -0.5}
    other = {"id": 4, "token": "b", "bytes": [98], "logprob": -0.1}
    chunk["choices"][0]["logprobs"] = {"content": [{**facts, "top_logprobs": [other, facts]}]}
    (first, _), _ = run([chunk, LAST])
    (record,) = first.logprobs
    assert list(record) == ["3", "4"]
    assert record["4"]["rank"] == 1
    assert first.cumulative_logprob == -0.5
