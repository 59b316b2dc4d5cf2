"""The control socket, with the client that the commands use."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from services.mesh.control import ControlClient, ControlError, ControlServer
from services.mesh.http_server import http_server
from services.mesh.otlp.store import TraceStore
from tests.unit.mesh.spans import span


async def test_traces_and_state_are_asked_for(tmp_path: Path) -> None:
    store = TraceStore()
    server = ControlServer(store, lambda: {"parts": []})
    client = ControlClient(tmp_path / "control.sock")
    async with http_server(f"unix:{client.socket}", server.handle):
        with pytest.raises(ControlError, match="no call has been traced"):
            await asyncio.to_thread(client.trace)
        store.add([span("a", trace="ab" + "0" * 30, start=1), span("b", trace="ac" + "0" * 30, start=2)])
        assert (await asyncio.to_thread(client.trace))["trace_id"] == "ac" + "0" * 30
        assert (await asyncio.to_thread(client.trace, "AB"))["roots"][0]["name"] == "a"
        for asked, said in (("a", "2 traces begin with a"), ("ff", "no trace ff")):
            with pytest.raises(ControlError, match=said):
                await asyncio.to_thread(client.trace, asked)
        assert await asyncio.to_thread(client.state) == {"parts": []}


async def test_nobody_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ControlError, match="does not answer"):
        await asyncio.to_thread(ControlClient(tmp_path / "control.sock").state)


async def test_only_the_owner_may_connect(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    async with http_server(f"unix:{path}", ControlServer(TraceStore(), dict).handle):
        assert path.stat().st_mode & 0o077 == 0
