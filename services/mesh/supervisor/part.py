"""One part of the mesh: how it is started, and the process while it runs."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.mesh.supervisor.logs import last_lines, open_log, rotate

_KILL_SECONDS: Final = 2.0


def _nothing() -> None:
    """The default of `before_start`."""


@dataclass(frozen=True, slots=True)
class Part:
    """What the supervisor has to know about a part."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    """Its whole environment."""
    log: Path
    ready: Callable[[], Awaitable[bool]]
    """Tells whether it does its work; False while it cannot be reached. Returns within a second or two."""
    address: str
    """Where it is reached, for people."""
    patience: float = 60.0
    """How long it may take to get ready, in seconds."""
    obstacle: Callable[[], Awaitable[str]] | None = None
    """Tells what keeps it from getting ready and will not pass by itself; empty when nothing is known to."""
    before_start: Callable[[], object] = _nothing
    """Run before each start, when no process of the part is left: clears what a killed one left. May block."""
    ailing: Callable[[int], str] | None = None
    """Tells what is wrong with a ready process (its id is given) that must be replaced; empty when nothing is."""


class PartProcess:
    """A started process, the leader of a process group of its own."""

    def __init__(self, part: Part, process: asyncio.subprocess.Process, log_start: int) -> None:
        self._part = part
        self._process = process
        self._log_start = log_start

    @classmethod
    async def start(cls, part: Part) -> PartProcess:
        """Starts the part's process.

        Raises:
            OSError: the program cannot be run.
        """
        await asyncio.to_thread(part.before_start)
        rotate(part.log)
        log = open_log(part.log)
        try:
            process = await asyncio.create_subprocess_exec(
                *part.command,
                env=dict(part.environment),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C in the terminal reaches the supervisor only, which stops all in order
            )
            return cls(part, process, os.fstat(log).st_size)
        finally:
            os.close(log)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def wait(self) -> int:
        """Returns the exit code when the process has ended; negative for a signal."""
        return await self._process.wait()

    def last_words(self) -> str:
        """Gives the last line that it wrote to its log; empty when there is none."""
        return "".join(last_lines(self._part.log, self._log_start))

    async def stop(self, seconds: float) -> bool:
        """Asks the process to end, and kills its whole group when it has not after `seconds`.

        Returns:
            Whether it ended by itself.
        """
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(seconds):
                await self._process.wait()
            ended = True
        except TimeoutError:
            ended = False
        await self.kill()
        return ended

    async def kill(self) -> None:
        """Kills what is left of the process and its group."""
        self._signal(signal.SIGKILL)
        with suppress(TimeoutError):
            async with asyncio.timeout(_KILL_SECONDS):
                await self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


def exit_reason(code: int) -> str:
    """Says how a process ended."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
