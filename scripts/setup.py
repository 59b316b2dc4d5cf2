"""Prepares a clone: `.venv` with the locked packages, Triton's runtime, the embedding model. What `make setup` runs.

Does nothing when all is there. Needs Python 3.11 or 3.12 with venv and its shared library, a package index, no root.
The three parts run at the same time as far as they can.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV_PYTHON = ROOT / ".venv" / "bin" / "python"
OLDEST, NEWEST = (3, 11), (3, 12)
VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"
PYTHONS = ("python3.12", "python3.11")

_printing = threading.Lock()


class Step(threading.Thread):
    """A script that runs beside the others; its lines are printed with its name before them."""

    def __init__(self, name: str, command: list[str]) -> None:
        super().__init__(daemon=True)
        self.label = name
        self.command = command
        self.code = 1

    def run(self) -> None:
        process = subprocess.Popen(
            self.command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1
        )
        with process:
            for line in process.stdout or ():
                if line.strip():
                    with _printing:
                        print(f"[{self.label}] {line.rstrip()}", flush=True)
        self.code = process.returncode


def use_right_python() -> None:
    """Goes on under a Python that fits, when this one does not."""
    if OLDEST <= sys.version_info[:2] <= NEWEST:
        return
    for name in PYTHONS:
        found = shutil.which(name)
        if found:
            os.execv(found, [found, *sys.argv])  # noqa: S606 - the same script, under another Python
    sys.exit(
        f"setup: Python 3.11 or 3.12 is needed, and this is {VERSION}. "
        "Debian, Ubuntu: apt install python3.11 python3.11-venv libpython3.11. "
        "Without root: uv python install 3.11, then make PYTHON=$(uv python find 3.11)"
    )


def check_machine() -> None:
    """Finds out what is missing before anything is downloaded."""
    if not sys.platform.startswith("linux"):
        sys.exit(f"setup: the mesh runs on Linux, and this is {sys.platform}: use a Linux machine or a container")
    try:
        import ensurepip  # noqa: F401, PLC0415 - Debian ships Python without it
        import venv  # noqa: F401, PLC0415
    except ImportError:
        sys.exit(
            f"setup: this Python has no venv module. Debian, Ubuntu: apt install python{VERSION}-venv. "
            "Without root: uv python install 3.11, then make PYTHON=$(uv python find 3.11)"
        )
    from setup_triton import SetupError, find_interpreter  # noqa: PLC0415 - needs the right Python

    try:
        find_interpreter()
    except SetupError as error:
        sys.exit(f"setup: {error}")


def finish(steps: list[Step]) -> None:
    """Waits for the steps; ends with an error when one failed."""
    for step in steps:
        step.join()
    failed = [step.label for step in steps if step.code != 0]
    if failed:
        sys.exit(f"setup: {' and '.join(failed)} failed; what went wrong is said above")


def main() -> None:
    use_right_python()
    begun = time.monotonic()
    check_machine()
    scripts = ROOT / "scripts"
    triton = Step("triton", [sys.executable, str(scripts / "setup_triton.py")])
    triton.start()
    packages = Step("packages", [sys.executable, str(scripts / "setup_packages.py")])
    packages.start()
    packages.join()
    if packages.code == 0:
        # It writes an ONNX graph, with packages that are there only now.
        embedder = Step("embedder", [str(VENV_PYTHON), str(scripts / "setup_embedder.py")])
        embedder.start()
        finish([packages, triton, embedder])
    finish([packages, triton])
    print(f"setup: all is there ({time.monotonic() - begun:.0f} s)", flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
