"""A model's process that dies or hangs: callers in progress are told, and the server ends, so that a new one starts."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import grpc
import psutil
import pytest

from services.common.status import from_rpc_error
from services.common.triton_server import LlamaModel
from tests.fakes.tiny_gguf import TinyModel
from tests.fakes.triton_process import RunningTriton, running_triton
from tests.integration.inference.calls import STATUS, answer, inference, request, settings_for
from tests.integration.inference.triton_requests import ask, triton_client

_CALL_SECONDS = 100
"""More than all else here: who hears of it late, hears of it by the call's own deadline."""


def model_process(triton: RunningTriton) -> psutil.Process:
    """The process of the server's only model."""
    (stub,) = [one for one in psutil.Process(triton.process.pid).children() if "python_backend_stub" in one.exe()]
    return stub


async def told(call: grpc.aio.UnaryStreamCall) -> tuple[str, str]:
    """Reads a call to its end, which must be an error; gives its reason and message."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        while await call.read() is not grpc.aio.EOF:
            pass
    error = from_rpc_error(caught.value, "inference")
    return error.reason_name, error.message


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_calls_in_progress_are_told_and_the_server_ends(
    tmp_path: Path, endless: TinyModel, number: signal.Signals
) -> None:
    models = [LlamaModel("endless", endless.path, 32768, slots=2)]
    with running_triton(tmp_path, models) as triton:
        async with inference(settings_for(tmp_path, models, triton.address, idle="90s")) as service:
            await service.wait_until(STATUS.SERVING)
            asked = request(model="endless-local", max_tokens=30_000)
            calls = [service.stream(asked, timeout=_CALL_SECONDS) for _ in range(2)]
            for call in calls:
                await call.read()
            stub = model_process(triton)
            stub.send_signal(number)
            reasons = await asyncio.gather(*map(told, calls))
            assert [reason for reason, _ in reasons] == ["BACKEND_UNAVAILABLE"] * 2
            assert not any("gave nothing" in message for _, message in reasons), "the connection did not break"
            assert await asyncio.to_thread(triton.process.wait, 20) == -signal.SIGKILL
            _, alive = await asyncio.to_thread(psutil.wait_procs, [stub], timeout=20)
            assert not alive, "the model stays in memory"
            await service.wait_until(STATUS.NOT_SERVING)


async def test_a_busy_or_unloaded_model_is_left_alone(tmp_path: Path, tiny: TinyModel) -> None:
    models = [LlamaModel("tiny", tiny.path, 512, slots=2)]
    with running_triton(tmp_path, models) as triton:
        async with (
            triton_client(triton.address) as client,
            inference(settings_for(tmp_path, models, triton.address)) as service,
        ):
            await service.wait_until(STATUS.SERVING)
            first = model_process(triton)
            await client.unload_model("tiny", client_timeout=20)
            await service.wait_until(STATUS.NOT_SERVING)
            assert not (await asyncio.to_thread(psutil.wait_procs, [first], timeout=20))[1]
            await client.load_model("tiny", client_timeout=20)
            await service.wait_until(STATUS.SERVING)
            assert (await answer(service, request())).text == tiny.answer
            assert [piece async for piece in ask(client, "tiny")]
            assert triton.process.poll() is None
            assert await asyncio.to_thread(triton.stop) == 0
