"""One tritonserver with two known models for the tests of this folder."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from services.common.triton_server import LlamaModel
from tests.fakes.tiny_gguf import TinyModel, build_tiny_gguf
from tests.fakes.triton_process import RunningTriton, running_triton
from tests.integration.inference.calls import STATUS, Inference, inference, settings_for

ENDLESS_CONTEXT = 32768
TINY_CONTEXT = 512


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    """A model that says one sentence."""
    return build_tiny_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", context_tokens=TINY_CONTEXT)


@pytest.fixture(scope="session")
def endless(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    """A model that says its sentence over and over."""
    path = tmp_path_factory.mktemp("gguf") / "endless.gguf"
    return build_tiny_gguf(path, endless=True, context_tokens=ENDLESS_CONTEXT)


@pytest.fixture(scope="session")
def triton_models(tiny: TinyModel, endless: TinyModel) -> list[LlamaModel]:
    return [
        LlamaModel("tiny", tiny.path, TINY_CONTEXT, slots=4),
        LlamaModel("endless", endless.path, ENDLESS_CONTEXT, slots=2, queue=1),
    ]


@pytest.fixture(scope="session")
def triton(tmp_path_factory: pytest.TempPathFactory, triton_models: list[LlamaModel]) -> Iterator[RunningTriton]:
    """The server, shared by the tests that leave it as it is."""
    with running_triton(tmp_path_factory.mktemp("triton"), triton_models) as running:
        yield running


@pytest.fixture
async def service(tmp_path: Path, triton: RunningTriton, triton_models: list[LlamaModel]) -> AsyncIterator[Inference]:
    """The inference service in front of that server."""
    async with inference(settings_for(tmp_path, triton_models, triton.address)) as running:
        await running.wait_until(STATUS.SERVING)
        yield running
