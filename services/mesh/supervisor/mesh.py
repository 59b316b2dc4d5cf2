"""Starts every part at once, keeps them up, and stops them in order."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from services.mesh.envoy import MESH_SERVICES
from services.mesh.envoy_admin import EnvoyAdmin
from services.mesh.supervisor.errors import UpError
from services.mesh.supervisor.probes import envoy_sees
from services.mesh.supervisor.runner import Runner, Say

_LOG: Final = logging.getLogger(__name__)
_SEEN_SECONDS: Final = 15.0
"""How long Envoy may take to find the services that are ready."""
_POLL_SECONDS: Final = 0.1
_PATIENCE_SECONDS: Final = 10.0
"""After so long without news, a person is told what is being waited for."""

_DRAIN_SECONDS: Final = 2.0
_STOP_ORDER: Final = (("router",), ("envoy",), ("provider", "inference", "cache", "triton"))
"""Who stops after whom: nobody loses what it still needs."""
_STOP_SECONDS: Final = {"router": 2.0, "envoy": 1.0}
_STOP_SECONDS_OTHERS: Final = 4.0
"""With the drain at most nine seconds."""


class Mesh:
    """The running parts."""

    def __init__(self, runners: Sequence[Runner], admin: EnvoyAdmin, say: Say) -> None:
        self.runners = tuple(runners)
        self._admin = admin
        self._say = say

    async def start(self) -> None:
        """Starts every part at the same time; returns when a call that enters at the ingress gets through.

        Raises:
            UpError: a part did not start; the others may run, and `stop` stops them.
        """
        tasks = [asyncio.create_task(self._start(runner), name=runner.part.name) for runner in self.runners]
        try:
            waiting = set(tasks)
            while waiting:
                done, waiting = await asyncio.wait(
                    waiting, timeout=_PATIENCE_SECONDS, return_when=asyncio.FIRST_EXCEPTION
                )
                for task in done:
                    task.result()
                if waiting:
                    self._say(f"waiting for {', '.join(sorted(task.get_name() for task in waiting))} …")
            await self._wait_seen()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def keep(self) -> None:
        """Keeps every part up until cancelled."""
        async with asyncio.TaskGroup() as group:
            for runner in self.runners:
                group.create_task(runner.keep())

    async def stop(self) -> None:
        """Stops every part: no new calls, then the calls in progress, then the parts from the door inwards."""
        begun = time.monotonic()
        await self._drain()
        _LOG.info("the ingress is closed", extra={"seconds": round(time.monotonic() - begun, 2)})
        by_name = {runner.part.name: runner for runner in self.runners}
        for names in _STOP_ORDER:
            stopping = [
                by_name[name].stop(_STOP_SECONDS.get(name, _STOP_SECONDS_OTHERS)) for name in names if name in by_name
            ]
            await asyncio.gather(*stopping)
            _LOG.info("stopped: %s", ", ".join(names), extra={"seconds": round(time.monotonic() - begun, 2)})

    async def _start(self, runner: Runner) -> None:
        await runner.start()
        self._say(f"{runner.part.name:<10} ready after {runner.state.ready_seconds:4.1f} s")

    async def _wait_seen(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_SEEN_SECONDS):
                while not await envoy_sees(self._admin, MESH_SERVICES):  # noqa: ASYNC110 - Envoy tells only when asked
                    await asyncio.sleep(_POLL_SECONDS)
                return
        raise UpError(f"Envoy found no healthy {' or '.join(MESH_SERVICES)} within {_SEEN_SECONDS:.0f} s")

    async def _drain(self) -> None:
        """Lets the calls in progress finish, for a while, and takes no new ones."""
        begun = time.monotonic()
        if not await asyncio.to_thread(self._admin.close_ingress):
            return
        while time.monotonic() - begun < _DRAIN_SECONDS:
            if await asyncio.to_thread(self._admin.calls_in_progress) == 0:
                return
            await asyncio.sleep(_POLL_SECONDS)
