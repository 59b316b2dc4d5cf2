"""Ends a tritonserver whose model process died or hangs, so that whoever runs the server starts it again.

Triton 2.51 does not notice either: calls in progress wait for their deadlines, later ones fail, and the server stays
"ready". Unloading and loading such a model again is no way out, since now and then the server aborts meanwhile. Once
the server ends, callers see their connections break at once, and another replica or a new server takes over.

The model's process starts this file as a process of its own, with the standard library only, and writes a byte to its
standard input twice a second. The kernel closes that pipe however the process ends, SIGKILL included, and a stopped or
stuck process writes nothing.

    python3 -I -S guard.py SERVER_PID MODEL_PID MODEL_NAME
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable

_BEAT_SECONDS = 0.5
_LOOK_SECONDS = 1.0
_SILENT_LOOKS = 8
"""Looks, not seconds: after the machine slept, or with the whole container frozen, time has passed and no looks."""
_BEAT = b"."
_FAREWELL = b"q"


class Guard:
    """The model's side: keeps telling that all is well, and starts the guard again should it be gone.

    Args:
        name: The model's name, for the log.
        is_well: Asked before each beat; False keeps it back.
    """

    def __init__(self, name: str, is_well: Callable[[], bool]) -> None:
        self._name = name
        self._server_pid = os.getppid()
        self._is_well = is_well
        self._ended = threading.Event()
        self._process = self._start()
        self._thread = threading.Thread(target=self._beat, name="guard", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Dismisses the guard: from now on the process may end."""
        self._ended.set()
        self._thread.join()
        with contextlib.suppress(OSError):
            self._pipe.write(_FAREWELL)
            self._pipe.close()
        self._process.wait()

    def _beat(self) -> None:
        while not self._ended.wait(_BEAT_SECONDS):
            if not self._is_well():
                continue
            try:
                self._pipe.write(_BEAT)
            except OSError:
                self._process.wait()
                self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        # The interpreter is not sys.executable: Triton's stub embeds one.
        python = shutil.which("python3") or "python3"
        command = [python, "-I", "-S", __file__, str(self._server_pid), str(os.getpid()), self._name]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, bufsize=0, cwd="/")
        if process.stdin is None:
            raise RuntimeError("the guard has no standard input")
        self._pipe = process.stdin
        return process


def wait_for_trouble(pipe: int, look_seconds: float = _LOOK_SECONDS, silent_looks: int = _SILENT_LOOKS) -> str:
    """Reads beats until they end; gives what is wrong, or nothing after a farewell."""
    silent = 0
    while silent < silent_looks:
        if not select.select([pipe], [], [], look_seconds)[0]:
            silent += 1
            continue
        beats = os.read(pipe, 4096)
        if not beats:
            return "died"
        if _FAREWELL in beats:
            return ""
        silent = 0
    return "hangs"


def main() -> None:
    """Guards until the model says farewell or is in trouble."""
    server_pid, model_pid, name = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    # A process's descriptor still means that process when its number has gone to another one.
    server, model = os.pidfd_open(server_pid), os.pidfd_open(model_pid)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the model ends after its server is asked to, and so does this
    trouble = wait_for_trouble(sys.stdin.fileno())
    if not trouble:
        return
    sys.stderr.write(f"llamacpp: {name}: the model's process {trouble}: ending tritonserver\n")
    with contextlib.suppress(ProcessLookupError):
        # The first process of a container cannot be killed from inside; it can be asked to end.
        signal.pidfd_send_signal(server, signal.SIGTERM if server_pid == 1 else signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(model, signal.SIGKILL)


if __name__ == "__main__":
    main()
