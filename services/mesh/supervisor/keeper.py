"""Ends every process of a mesh whose supervisor was killed, and removes what they leave.

`mycel up` starts this as a process of its own, with the standard library only, so that it costs little. It holds the
read end of a pipe whose write end only the supervisor has: however the supervisor ends, SIGKILL included, the kernel
closes the pipe and the keeper reads its end. It then stops every process that carries the run's id in its environment,
which children inherit, so that grandchildren and processes started a moment ago are found too. A signal on the
parent's death (PR_SET_PDEATHSIG) would reach neither, and would not clean up.

    python -I -S keeper.py RUN_ID RUN_DIR SHM_PREFIX

After an orderly stop there is nothing left to do, and it ends at once.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
from pathlib import Path

RUN_ID_VARIABLE = "MYCEL_RUN_ID"
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where the kernel has it
_POLITE_SECONDS = 5.0
_GIVE_UP_SECONDS = 10.0
_PAUSE_SECONDS = 0.1


def processes_of(run_id: str) -> list[int]:
    """Gives the ids of the live processes that carry the run's id, this one left out."""
    marker = f"{RUN_ID_VARIABLE}={run_id}".encode()
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            # A zombie's environment reads as empty, so that only what still runs is found.
            if marker in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:
            continue  # gone meanwhile, or another user's
    return found


def end_all(run_id: str, polite: float = _POLITE_SECONDS) -> None:
    """Asks every process of the run to end, and kills what is left after `polite` seconds."""
    begun = time.monotonic()
    asked: set[int] = set()
    while (left := processes_of(run_id)) and time.monotonic() - begun < _GIVE_UP_SECONDS:
        harsh = time.monotonic() - begun > polite
        for pid in left:
            if harsh or pid not in asked:
                send(pid, signal.SIGKILL if harsh else signal.SIGTERM)
                asked.add(pid)
        time.sleep(_PAUSE_SECONDS)


def send(pid: int, number: signal.Signals) -> None:
    """Signals a process that may be gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def remove_leftovers(run_dir: str, shm_prefix: str) -> None:
    """Removes the run's sockets and its files in shared memory."""
    shutil.rmtree(run_dir, ignore_errors=True)
    for path in _SHARED_MEMORY.glob(f"{shm_prefix}*"):
        path.unlink(missing_ok=True)


def main() -> None:
    run_id, run_dir, shm_prefix = sys.argv[1:]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends when the supervisor has ended, not before
    sys.stdin.buffer.read()
    end_all(run_id)
    remove_leftovers(run_dir, shm_prefix)


if __name__ == "__main__":
    main()
