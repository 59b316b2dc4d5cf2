"""`1/model.json`: a mistake in it is named."""

from __future__ import annotations

import json

import pytest
from mycel_llamacpp.engine import EngineSettings

from services.common.triton_server import LlamaModel


def test_what_the_supervisor_writes_is_read_back(tmp_path) -> None:
    weights = tmp_path / "m.gguf"
    weights.touch()
    path = tmp_path / "model.json"
    path.write_text(json.dumps(LlamaModel("m", weights, 512, slots=3, threads=2, queue=9).settings()))
    assert EngineSettings.read(path) == EngineSettings(str(weights), 512, 3, 2, 9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"slot": 1}, "unknown field 'slot' .known: model, context_tokens"),
        ({"slots": None}, "'slots' must be a whole number from 1 on"),
        ({"slots": True}, "'slots' must be"),
        ({"context_tokens": 1}, "'context_tokens' must be"),
        ({"model": "/none/such.gguf"}, "'model': there is no file /none/such.gguf"),
    ],
)
def test_mistake_is_named(tmp_path, change: dict, message: str) -> None:
    weights = tmp_path / "m.gguf"
    weights.touch()
    path = tmp_path / "model.json"
    path.write_text(json.dumps({**LlamaModel("m", weights, 512).settings(), **change}))
    with pytest.raises(ValueError, match=message):
        EngineSettings.read(path)


def test_missing_field_is_named(tmp_path) -> None:
    path = tmp_path / "model.json"
    path.write_text('{"model": "x"}')
    with pytest.raises(ValueError, match="field 'context_tokens' is missing"):
        EngineSettings.read(path)
