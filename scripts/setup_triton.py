"""Creates Triton's runtime: a virtual environment of its own with the server and the engine.

Called by `make setup`; does nothing when the runtime already matches requirements/triton.lock.
Needs no root and only the standard library. The runtime lives in `$MYCEL_RUNTIME/triton`
(`.runtime/triton` by default) and its `runtime.json` is what services.common.triton_server reads.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
LOCK = REPOSITORY / "requirements" / "triton.lock"
STAMP = "runtime.json"
PYTHONS = ("python3.11", "python3.12")

_DESCRIBE = """
import json, sys, sysconfig
get = sysconfig.get_config_var
library = sysconfig.get_config_var("LIBDIR") or ""
print(json.dumps({
    "version": "%d.%d" % sys.version_info[:2],
    "folders": [library, library + "/" + (get("MULTIARCH") or ""), get("LIBPL") or "",
                sys.base_prefix + "/lib"],
}))
"""


class SetupError(Exception):
    """Something that a person has to put right; the message says what."""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python whose shared library can be loaded by Triton's stub process.

    Attributes:
        executable: The interpreter outside any virtual environment.
        version: Such as `3.11`.
        library_folder: The folder that holds libpython.
    """

    executable: str
    version: str
    library_folder: str


def main() -> int:
    """Sets the runtime up and says in one line what came of it."""
    runtime = Path(os.environ.get("MYCEL_RUNTIME") or REPOSITORY / ".runtime") / "triton"
    try:
        runtime.parent.mkdir(parents=True, exist_ok=True)
        with (runtime.parent / "triton.lock").open("w") as guard:
            fcntl.flock(guard, fcntl.LOCK_EX)  # two set-ups at once would undo each other
            set_up(runtime)
    except (SetupError, OSError) as error:
        print(f"triton: {error}", file=sys.stderr)
        return 1
    return 0


def set_up(runtime: Path) -> None:
    """Makes the runtime match the lock.

    Raises:
        SetupError: No usable Python, or a step failed.
    """
    wanted = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    if is_current(runtime, wanted):
        print(f"triton: runtime is up to date in {runtime}")
        return
    started = time.monotonic()
    interpreter = find_interpreter()
    print(f"triton: creating the runtime in {runtime} with Python {interpreter.version}")
    shutil.rmtree(runtime, ignore_errors=True)
    run([interpreter.executable, "-m", "venv", str(runtime)], "creating the environment")
    print("triton: installing the server and the engine (about 115 MB to fetch the first time)")
    python = runtime / "bin" / "python"
    # --no-deps: the lock leaves out what only the Python wrapper of the server would need.
    install = ["-m", "pip", "install", "--disable-pip-version-check", "--no-deps"]
    exact = ["--require-hashes", "--only-binary", ":all:", "-r", str(LOCK)]
    run([str(python), *install, *exact], "installing requirements/triton.lock")
    check(runtime, interpreter)
    stamp = {
        "lock_sha256": wanted,
        "python": interpreter.version,
        "library_folder": interpreter.library_folder,
    }
    (runtime / STAMP).write_text(json.dumps(stamp, indent=2) + "\n")
    print(f"triton: runtime ready in {time.monotonic() - started:.0f} s")


def is_current(runtime: Path, wanted: str) -> bool:
    """True when the runtime was finished from the lock with this hash and can still start."""
    try:
        stamp = json.loads((runtime / STAMP).read_text())
        library = Path(stamp["library_folder"]) / f"libpython{stamp['python']}.so.1.0"
        python = runtime / "bin" / "python"
        return bool(stamp["lock_sha256"] == wanted and library.exists() and python.exists())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def find_interpreter() -> Interpreter:
    """The Python to build on: this one if its shared library is there, else another of the kind.

    Raises:
        SetupError: None has a libpython; says what to install.
    """
    this = os.path.realpath(sys.executable)
    for name in (this, *filter(None, map(shutil.which, PYTHONS))):
        try:
            described = subprocess.run([name, "-c", _DESCRIBE], capture_output=True, text=True, timeout=30, check=True)
        except (OSError, subprocess.SubprocessError):
            continue
        facts = json.loads(described.stdout)
        if f"python{facts['version']}" not in PYTHONS:
            continue
        for folder in facts["folders"]:
            if Path(folder, f"libpython{facts['version']}.so.1.0").exists():
                return Interpreter(name, facts["version"], str(Path(folder).resolve()))
    raise SetupError(
        "Triton's Python backend needs libpython3.11.so.1.0 (or 3.12), and no Python here has it. "
        "On Debian or Ubuntu: apt install libpython3.11. With pyenv: "
        "PYTHON_CONFIGURE_OPTS=--enable-shared pyenv install 3.11. "
        "A Python from uv (uv python install 3.11) has it as it is."
    )


def check(runtime: Path, interpreter: Interpreter) -> None:
    """Loads the engine and the server once, so that an unfit machine is found out now."""
    python = runtime / "bin" / "python"
    run([str(python), "-c", "import numpy, xllamacpp, llguidance"], "loading the engine", quiet=True)
    packages = runtime / "lib" / f"python{interpreter.version}" / "site-packages"
    server = packages / "pytriton" / "tritonserver" / "bin" / "tritonserver"
    libraries = f"{packages / 'nvidia_pytriton.libs'}:{interpreter.library_folder}"
    environment = {**os.environ, "LD_LIBRARY_PATH": libraries}
    # It prints its usage and exits with 1: what counts is that the loader let it start.
    started = subprocess.run(
        [str(server), "--help"], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    if "Usage: tritonserver" not in started.stdout + started.stderr:
        tail = (started.stderr.strip() or "no output").splitlines()[-1]
        raise SetupError(f"tritonserver cannot start on this machine (glibc 2.35 needed?): {tail}")


def run(command: list[str], what: str, *, quiet: bool = False) -> None:
    """Runs a step with its output in view.

    Raises:
        SetupError: It failed.
    """
    try:
        result = subprocess.run(command, capture_output=quiet, text=True, timeout=1800, check=False)
    except subprocess.TimeoutExpired:
        raise SetupError(f"{what} took more than 30 minutes") from None
    if result.returncode != 0:
        detail = f": {result.stderr.strip().splitlines()[-1]}" if quiet and result.stderr else ""
        raise SetupError(f"{what} failed{detail}")


if __name__ == "__main__":
    sys.exit(main())
