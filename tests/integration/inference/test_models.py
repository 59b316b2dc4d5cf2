"""Models that come and go, that Triton cannot load, that it does not have, and a Triton of another kind."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from mycel.completion.v1 import completion_service_pb2 as completion
from tritonclient.utils import InferenceServerException

from services.common.errors import MycelError
from services.common.triton_server import LlamaModel, write_model_repository
from tests.fakes.other_triton import other_triton
from tests.fakes.tiny_gguf import TinyModel
from tests.fakes.triton_process import RunningTriton, running_triton
from tests.integration.inference.calls import STATUS, Inference, answer, inference, request, settings_for
from tests.integration.inference.triton_requests import triton_client


async def until(service: Inference, wanted: Callable[[dict[str, completion.ModelInfo]], bool]) -> None:
    """Waits until the service tells this of its models."""
    async with asyncio.timeout(20):
        while not wanted(await service.models()):  # noqa: ASYNC110 - the service tells only when asked
            await asyncio.sleep(0.02)


async def refusal(service: Inference, model: str) -> MycelError:
    with pytest.raises(MycelError) as caught:
        await answer(service, request(model=model))
    return caught.value


async def test_one_of_two_models_is_unloaded_and_loaded_again(
    tmp_path: Path, triton_models: list[LlamaModel], tiny: TinyModel
) -> None:
    with running_triton(tmp_path, triton_models) as triton:
        async with (
            triton_client(triton.address) as client,
            inference(settings_for(tmp_path, triton_models, triton.address)) as service,
        ):
            await until(service, lambda found: found["tiny-local"].available and found["endless-local"].available)
            running = asyncio.create_task(answer(service, request(model="endless-local", max_tokens=3_000)))
            await client.unload_model("tiny", client_timeout=20)
            await until(service, lambda found: not found["tiny-local"].available)
            error = await refusal(service, "tiny-local")
            assert error.meaning.failover
            # The other model neither stops nor stops being offered.
            assert (await running).usage.completion_tokens == 3_000
            assert (await answer(service, request(model="endless-local", max_tokens=2))).usage.completion_tokens == 2
            await client.load_model("tiny", client_timeout=20)
            await until(service, lambda found: found["tiny-local"].available)
            assert (await answer(service, request())).text == tiny.answer


def _model_json(folder: Path, change: dict[str, object]) -> None:
    path = folder / "1" / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


def _config(folder: Path, old: str, new: str) -> None:
    path = folder / "config.pbtxt"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: _model_json(folder, {"slotz": 3}), ("model.json", "'slotz'", "slots")),
        (lambda folder: _model_json(folder, {"slots": "3"}), ("model.json", "'slots'", "whole number")),
        (lambda folder: _model_json(folder, {"model": "gone.gguf"}), ("model.json", "'model'", "gone.gguf")),
        (lambda folder: (folder / "1" / "model.json").write_text("{"), ("model.json",)),
        (lambda folder: _config(folder, 'backend: "llamacpp"', 'backend: "llamacp"'), ("llamacp",)),
        (lambda folder: _config(folder, '"finish_reason"', '"finish_raeson"'), ("'finish_reason'", "output")),
        (lambda folder: _config(folder, '"stream"', '"steram"'), ("'stream'", "input")),
    ],
)
async def test_a_typo_in_the_model_repository_is_named(
    tmp_path: Path, triton: RunningTriton, triton_models: list[LlamaModel], tiny: TinyModel, change, said
) -> None:
    # Triton keeps what went wrong with a name.
    name = f"odd-{uuid.uuid4().hex[:8]}"
    odd = LlamaModel(name, tiny.path, 512, slots=1)
    write_model_repository(tmp_path / "written", [odd])
    change(tmp_path / "written" / name)
    there = triton.log.parent / "models" / name
    (tmp_path / "written" / name).rename(there)
    try:
        async with (
            triton_client(triton.address) as client,
            inference(settings_for(tmp_path, [triton_models[0], odd], triton.address)) as service,
        ):
            with suppress(InferenceServerException):  # Triton keeps the reason
                await client.load_model(name, client_timeout=30)
            await until(
                service,
                lambda found: (
                    "configuration" in found[f"{name}-local"].unavailable_reason
                    or "could not load" in found[f"{name}-local"].unavailable_reason
                ),
            )
            error = await refusal(service, f"{name}-local")
            assert error.reason_name == "BACKEND_UNAVAILABLE"
            assert all(text in error.message for text in said), error.message
            assert "\n" not in error.message
            await until(service, lambda found: found["tiny-local"].available)
            await client.unload_model(name, client_timeout=20)
    finally:
        there.rename(tmp_path / "odd")


async def test_a_model_that_triton_does_not_have(
    tmp_path: Path, triton: RunningTriton, triton_models: list[LlamaModel], tiny: TinyModel
) -> None:
    models = [triton_models[0], LlamaModel("absent", tiny.path, 512)]
    async with inference(settings_for(tmp_path, models, triton.address)) as service:
        await service.wait_until(STATUS.SERVING)
        await until(service, lambda found: "no model absent" in found["absent-local"].unavailable_reason)
        error = await refusal(service, "absent-local")
    assert error.reason_name == "BACKEND_MODEL_MISSING"
    assert error.meaning.failover
    assert "tiny" in error.message, "the ones that are there are named"


async def test_a_configuration_that_triton_cannot_read(
    tmp_path: Path, triton_models: list[LlamaModel], tiny: TinyModel
) -> None:
    models = [triton_models[0], LlamaModel("odd", tiny.path, 512)]
    with running_triton(tmp_path, models[:1]) as triton:
        write_model_repository(tmp_path / "written", models[1:])
        _config(tmp_path / "written" / "odd", "max_batch_size", "max_bach_size")
        (tmp_path / "written" / "odd").rename(tmp_path / "models" / "odd")
        async with (
            triton_client(triton.address) as client,
            inference(settings_for(tmp_path, models, triton.address)) as service,
        ):
            with pytest.raises(InferenceServerException):
                await client.load_model("odd", client_timeout=30)
            await until(service, lambda found: "config.pbtxt" in found["odd-local"].unavailable_reason)
            assert (await refusal(service, "odd-local")).reason_name == "BACKEND_UNAVAILABLE"
        # Only its log names the field: Triton tells its clients nothing of such a model.
        assert "max_bach_size" in triton.log.read_text()


@pytest.mark.parametrize(
    ("name", "version", "said"),
    [("triton", "1.15.0", "version 1.15.0"), ("triton", "3.0.0", "version 3.0.0"), ("ovms", "2.51.0", "ovms")],
)
async def test_a_server_that_is_not_known_to_work(
    tmp_path: Path, triton_models: list[LlamaModel], name: str, version: str, said: str
) -> None:
    async with (
        other_triton(name, version) as address,
        inference(settings_for(tmp_path, triton_models[:1], address)) as service,
    ):
        await until(service, lambda found: said in found["tiny-local"].unavailable_reason)
        error = await refusal(service, "tiny-local")
    assert error.reason_name == "BACKEND_UNAVAILABLE"
    assert said in error.message
