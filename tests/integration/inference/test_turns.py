"""Who is let in to a model in a real tritonserver: so many, in turns, and the rest refused."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from services.common.errors import MycelError
from services.common.tenant import TENANT_HEADER
from services.common.triton_server import LlamaModel
from tests.fakes.tiny_gguf import TinyModel
from tests.fakes.triton_process import running_triton
from tests.integration.inference.calls import STATUS, answer, inference, request, settings_for


async def test_call_beyond_the_queue_is_refused_at_once(service) -> None:
    running = [service.stream(request(model="endless-local", max_tokens=30_000)) for _ in range(2)]
    for call in running:
        await call.read()
    more = [asyncio.create_task(answer(service, request(model="endless-local", max_tokens=1))) for _ in range(2)]
    # There is one place to wait in; whichever of the two comes second finds it taken, one tenant's as they are.
    done, waiting = await asyncio.wait(more, return_when=asyncio.FIRST_COMPLETED)
    with pytest.raises(MycelError) as caught:
        await done.pop()
    assert caught.value.reason_name == "OVERLOADED"
    assert caught.value.retry_after > 0
    for call in running:
        call.cancel()
    assert (await waiting.pop()).usage.completion_tokens == 1


async def test_a_quiet_tenant_is_served_before_a_loud_ones_queue(tmp_path, endless: TinyModel) -> None:
    models = [LlamaModel("endless", endless.path, 4096, slots=1, queue=7)]
    served: list[str] = []

    async def ask(service, tenant: str) -> None:
        await answer(service, request(model="endless-local", max_tokens=5), metadata=((TENANT_HEADER, tenant),))
        served.append(tenant)

    with running_triton(tmp_path, models) as triton:
        async with inference(settings_for(tmp_path, models, triton.address)) as service:
            await service.wait_until(STATUS.SERVING)
            running = service.stream(request(model="endless-local"), metadata=((TENANT_HEADER, "loud"),))
            await running.read()
            waiting = {asyncio.create_task(ask(service, tenant)) for tenant in [*["loud"] * 8, "quiet"]}
            refused: set[asyncio.Task[None]] = set()
            while len(refused) < 2:  # nine calls, seven places: then all of them have come
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                refused |= done
            running.cancel()
            await asyncio.gather(*waiting)
    for task in refused:
        with pytest.raises(MycelError, match="1 calls are in progress and 7 wait") as caught:
            task.result()
        assert caught.value.metadata["scope"] == "tenant"
    assert sorted(served) == [*["loud"] * 6, "quiet"]
    assert "quiet" in served[:2]


async def test_cancelled_while_waiting_leaves_its_place(service) -> None:
    running = [service.stream(request(model="endless-local", max_tokens=30_000)) for _ in range(2)]
    for call in running:
        await call.read()
    for _ in range(3):
        waiting = service.stream(request(model="endless-local", max_tokens=1), timeout=0.2)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await waiting.read()
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    for call in running:
        call.cancel()
    assert (await answer(service, request(model="endless-local", max_tokens=1))).usage.completion_tokens == 1
