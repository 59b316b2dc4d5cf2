"""Keeps one part running: waits until it is ready, and starts it again when it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from services.mesh.supervisor.errors import UpError
from services.mesh.supervisor.part import Part, PartProcess, exit_reason

State = Literal["starting", "ready", "waiting", "stopped"]
Say = Callable[[str], None]

_POLL_SECONDS: Final = 0.1
_OBSTACLE_SECONDS: Final = 5.0
"""How long an obstacle must have been the same to be believed."""
_WATCH_SECONDS: Final = 1.0
"""How often a ready part is looked at."""
_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 10.0
_STEADY_SECONDS: Final = 30.0
"""A part that was ready this long starts again without a pause that earlier failures earned."""


@dataclass(slots=True)
class PartState:
    """How a part is doing."""

    state: State = "stopped"
    pid: int = 0
    restarts: int = 0
    ready_seconds: float = 0.0
    """How long its last start took, in seconds."""
    trouble: str = ""
    """Why it was started again last."""


class Runner:
    """Runs one part. `start` brings it up once; `keep` then keeps it up until it is cancelled."""

    def __init__(self, part: Part, say: Say) -> None:
        self.part = part
        self.state = PartState()
        self._say = say
        self._process: PartProcess | None = None

    async def start(self) -> None:
        """Starts the part and returns when it is ready.

        Raises:
            UpError: it ended, or was not ready in time; the message has its last words.
        """
        begun = time.monotonic()
        self.state.state = "starting"
        try:
            self._process = await PartProcess.start(self.part)
        except OSError as error:
            raise UpError(f"{self.part.name} cannot be started: {error}") from error
        self.state.pid = self._process.pid
        await self._wait_ready(self._process)
        self.state.ready_seconds = time.monotonic() - begun
        self.state.state = "ready"

    async def keep(self) -> None:
        """Watches the part, which is ready, and starts it again whenever it ends or ails."""
        pause = _FIRST_PAUSE
        while True:
            since = time.monotonic()
            self.state.trouble = await self._wait_trouble()
            if time.monotonic() - since > _STEADY_SECONDS:
                pause = _FIRST_PAUSE
            pause = await self._restart(pause)

    async def stop(self, seconds: float) -> None:
        """Stops the part's process: politely for `seconds`, then not."""
        if self._process is not None:
            if not await self._process.stop(seconds):
                self._say(f"{self.part.name} did not stop in {seconds:.0f} s and was killed")
            self._process = None
        self.state.state, self.state.pid = "stopped", 0

    async def _restart(self, pause: float) -> float:
        """Starts the part until it is ready, with growing pauses; gives the next pause."""
        while True:
            self._say(f"{self.part.name} is started again: {self.state.trouble}")
            self.state.restarts += 1
            self.state.state, self.state.pid = "waiting", 0
            if self._process is not None:
                await self._process.kill()
            await asyncio.sleep(pause)
            pause = min(_LONGEST_PAUSE, pause * 2)
            try:
                await self.start()
            except UpError as error:
                self.state.trouble = str(error)
                continue
            self._say(f"{self.part.name} is ready again after {self.state.ready_seconds:.1f} s")
            return pause

    async def _wait_ready(self, process: PartProcess) -> None:
        ended = asyncio.create_task(process.wait())
        obstacle, since = "", time.monotonic()
        try:
            async with asyncio.timeout(self.part.patience):
                while not await self.part.ready():
                    done, _ = await asyncio.wait({ended}, timeout=_POLL_SECONDS)
                    if done:
                        raise UpError(self._did_not_start(exit_reason(ended.result())))
                    now = await self.part.obstacle() if self.part.obstacle else ""
                    if now != obstacle:
                        obstacle, since = now, time.monotonic()
                    if obstacle and time.monotonic() - since > _OBSTACLE_SECONDS:
                        raise UpError(f"{self.part.name} did not get ready: {obstacle} (log: {self.part.log})")
        except TimeoutError:
            raise UpError(self._did_not_start(f"not ready after {self.part.patience:.0f} s")) from None
        finally:
            ended.cancel()

    async def _wait_trouble(self) -> str:
        """Returns what happened, when the process has ended or ails."""
        process = self._process
        if process is None:
            return "it is not running"
        ended = asyncio.create_task(process.wait())
        try:
            while not (await asyncio.wait({ended}, timeout=_WATCH_SECONDS))[0]:
                ail = await asyncio.to_thread(self.part.ailing, process.pid) if self.part.ailing else ""
                if ail:
                    return ail
            return f"it ended ({exit_reason(ended.result())})"
        finally:
            ended.cancel()

    def _did_not_start(self, how: str) -> str:
        words = self._process.last_words() if self._process else ""
        said = f": {words}" if words else ""
        return f"{self.part.name} did not start ({how}){said} (log: {self.part.log})"
