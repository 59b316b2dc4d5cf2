"""Puts the inference service together and serves it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import Final

from mycel.completion.v1.completion_service_pb2_grpc import add_CompletionServiceServicer_to_server

from services.common.server import RunningServer, Service, running_server
from services.common.telemetry import Telemetry
from services.inference.answering import Answering
from services.inference.models import LocalModels
from services.inference.servicer import CompletionServicer
from services.inference.settings import InferenceSettings
from services.inference.triton_client import TritonClient
from services.inference.triton_state import TritonState
from services.inference.watch import ModelWatch

_THREADS: Final = 2
"""For reading model files and rendering templates."""


@asynccontextmanager
async def running_inference(settings: InferenceSettings, telemetry: Telemetry) -> AsyncIterator[RunningServer]:
    """Serves the inference service, NOT_SERVING until Triton has a model; on leaving, streams in progress finish."""
    models = LocalModels(settings.config)
    client = TritonClient(settings.triton, telemetry.tracer())
    state = TritonState(settings.triton)
    executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="inference")
    answering = Answering(client, executor)
    servicer = CompletionServicer(models, answering, call_seconds=settings.call_seconds)
    service = Service(
        "mycel.completion.v1.CompletionService",
        lambda server: add_CompletionServiceServicer_to_server(servicer, server),
    )
    try:
        async with running_server(settings.listen, [service], telemetry, serving=False) as server:
            watch = ModelWatch(
                models,
                state,
                executor,
                settings.config_folder,
                every_seconds=settings.watch_seconds,
                on_change=server.set_serving,
            )
            watching = asyncio.create_task(watch.run())
            try:
                yield server
            finally:
                watching.cancel()
                with suppress(asyncio.CancelledError):
                    await watching
    finally:
        await client.aclose()
        await state.aclose()
        executor.shutdown(wait=False, cancel_futures=True)
