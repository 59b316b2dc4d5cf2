"""Letting calls in: bounded, in turns among tenants, with an estimate of when there is room."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.errors import MycelError
from services.inference.admission import Admission


class Caller:
    """A call that takes a place, holds it until told, and notes that it was let in."""

    def __init__(self, admission: Admission, tenant: str, order: list[str]) -> None:
        self.tenant = tenant
        self._done = asyncio.Event()
        self._task = asyncio.create_task(self._run(admission, order))

    async def _run(self, admission: Admission, order: list[str]) -> None:
        async with admission.place(self.tenant):
            order.append(self.tenant)
            await self._done.wait()

    async def end(self) -> None:
        self._done.set()
        await self._task

    async def cancel(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def refusal(self) -> MycelError:
        with pytest.raises(MycelError) as caught:
            await self._task
        return caught.value


async def settle() -> None:
    """Lets every task go on until it waits."""
    for _ in range(10):
        await asyncio.sleep(0)


async def callers(admission: Admission, tenants: str, order: list[str]) -> list[Caller]:
    found = []
    for tenant in tenants:
        found.append(Caller(admission, tenant, order))
        await settle()
    return found


async def test_a_quiet_tenant_is_next_however_many_a_loud_one_has_in_the_queue() -> None:
    order: list[str] = []
    admission = Admission("m", places=2, room=10)
    found = await callers(admission, "aaaaaab", order)
    assert (order, admission.running, admission.waiting) == (["a", "a"], 2, 5)
    await found[0].end()
    await settle()
    assert order == ["a", "a", "b"]
    for caller in (found[1], found[6], *found[2:6]):
        await caller.end()
    assert (admission.running, admission.waiting) == (0, 0)


async def test_tenants_take_turns() -> None:
    order: list[str] = []
    admission = Admission("m", places=1, room=10)
    found = await callers(admission, "xaaabbbc", order)
    while len(order) < len(found):
        running = next(caller for caller in found if not caller._done.is_set() and caller.tenant == order[-1])
        await running.end()
        await settle()
    assert order == list("xabcabab")


async def test_full_queue_gives_the_newest_place_of_the_loudest_to_another() -> None:
    order: list[str] = []
    admission = Admission("m", places=1, room=3)
    found = await callers(admission, "aaaa", order)
    (loud,) = await callers(admission, "a", order)
    error = await loud.refusal()
    assert (error.reason_name, error.metadata["scope"]) == ("OVERLOADED", "tenant")
    (quiet,) = await callers(admission, "b", order)
    assert (await found[3].refusal()).reason_name == "OVERLOADED"
    assert admission.waiting == 3
    for caller in found[:2]:
        await caller.end()
        await settle()
    assert order == ["a", "a", "b"]
    for caller in (quiet, found[2]):
        await caller.end()


async def test_queue_full_of_many_tenants_is_nobodys_own_doing() -> None:
    order: list[str] = []
    admission = Admission("m", places=1, room=2)
    found = await callers(admission, "abc", order)
    (late,) = await callers(admission, "d", order)
    assert "scope" not in (await late.refusal()).metadata
    for caller in found:
        await caller.cancel()
    assert (admission.running, admission.waiting) == (0, 0)


async def test_retry_after_follows_the_drain_rate() -> None:
    now = [0.0]
    admission = Admission("m", places=2, room=0, clock=lambda: now[0])

    async def refused() -> float:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(admission.place("a"))
            await stack.enter_async_context(admission.place("a"))
            with pytest.raises(MycelError) as caught:
                await stack.enter_async_context(admission.place("a"))
            return caught.value.retry_after

    assert await refused() == 0.5  # a second a call is the first guess, over two places
    for _ in range(40):
        async with admission.place("a"):
            now[0] += 6
    assert await refused() == pytest.approx(3, rel=0.01)
    for _ in range(40):
        async with admission.place("a"):
            now[0] += 1000
    assert await refused() == 60


async def test_no_room_at_all_still_lets_run() -> None:
    admission = Admission("m", places=1, room=0)
    async with admission.place("a"):
        with pytest.raises(MycelError):
            await admission.place("b").__aenter__()
    async with admission.place("b"):
        assert admission.running == 1


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(st.tuples(st.sampled_from("aabc"), st.sampled_from(["come", "come", "end", "cancel"])), max_size=40)
)
async def test_no_place_is_lost_or_made(steps: list[tuple[str, str]]) -> None:
    order: list[str] = []
    admission = Admission("m", places=2, room=3)
    there: list[Caller] = []
    for tenant, step in steps:
        if step == "come":
            there.append(Caller(admission, tenant, order))
        elif there and step == "cancel":
            await there.pop(0).cancel()
        elif there:
            there[0]._done.set()
            there.pop(0)
        if len(steps) % 2:
            await settle()
        assert admission.running <= 2
        assert admission.waiting <= 3
    for caller in there:
        await caller.cancel()
    await settle()
    assert admission.running == 0
    assert admission.waiting == 0
