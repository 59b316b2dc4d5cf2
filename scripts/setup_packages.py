"""Makes `.venv` hold exactly what requirements/dev.lock names, by hash, and this project, editable.

Called by `make setup`; does nothing when `.venv` was made from the same lock. uv does it in a few seconds, with the
index and certificate settings that pip has; where uv cannot, pip does it.
"""

from __future__ import annotations

import ast
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements" / "dev.lock"
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "mycel-setup.json"
VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"
_INSTALL_SECONDS = 1800
_LOCAL = ["--no-deps", "--no-build-isolation", "--editable", str(ROOT)]

_UV_OF_PIP = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
    "timeout": "UV_HTTP_TIMEOUT",
    "default-timeout": "UV_HTTP_TIMEOUT",
    "no-index": "UV_NO_INDEX",
}
"""The settings of pip that uv has under another name; uv reads neither pip's file nor its variables."""


class SetupError(Exception):
    """A step failed; the message says which."""


def wanted() -> dict[str, str]:
    """What a finished `.venv` was made from."""
    digest = hashlib.sha256(LOCK.read_bytes() + (ROOT / "pyproject.toml").read_bytes()).hexdigest()
    return {"inputs_sha256": digest, "python": VERSION, "root": str(ROOT)}


def is_current() -> bool:
    """Whether `.venv` was finished from the same lock, in this place."""
    try:
        return bool(json.loads(STAMP.read_text()) == wanted() and (VENV / "bin" / "mycel").exists())
    except (OSError, ValueError):
        return False


def run(command: list[str], environment: dict[str, str] | None = None) -> bool:
    """Runs a step with its output in view; tells whether it went well."""
    try:
        result = subprocess.run(command, cwd=ROOT, env=environment, timeout=_INSTALL_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        print(f"gave up after {_INSTALL_SECONDS // 60} minutes")
        return False
    return result.returncode == 0


def create_venv() -> None:
    """Makes an empty environment, unless there is one of this Python version that runs."""
    works = "import sys, pip; sys.exit(f'{sys.version_info[0]}.{sys.version_info[1]}' != sys.argv[1])"
    if PYTHON.exists():
        tried = subprocess.run([str(PYTHON), "-c", works, VERSION], check=False, capture_output=True, timeout=60)
        if tried.returncode == 0:
            return
    print(f"creating .venv with Python {VERSION}", flush=True)
    shutil.rmtree(VENV, ignore_errors=True)
    if not run([sys.executable, "-m", "venv", str(VENV)]):
        raise SetupError("creating .venv failed")


def pip(*arguments: str) -> bool:
    """Runs pip inside `.venv`."""
    return run([str(PYTHON), "-m", "pip", "--disable-pip-version-check", *arguments])


def locked(name: str) -> str:
    """Gives a package's entry in the lock: the pin and its hashes."""
    entry: list[str] = []
    for line in LOCK.read_text().splitlines():
        starts = line.startswith(f"{name}==")
        if starts or (entry and line.startswith(" ")):
            entry.append(line)
        elif entry:
            break
    return "\n".join(entry) + "\n"


def bootstrap_uv() -> bool:
    """Installs uv by its pin in the lock."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(locked("uv"))
        file.flush()
        return pip("install", "--quiet", "--require-hashes", "--no-deps", "-r", file.name)


def uv_environment() -> dict[str, str]:
    """Gives uv the package index, certificates and time limits that pip is configured with."""
    listed = subprocess.run(
        [str(PYTHON), "-m", "pip", "config", "list"], capture_output=True, text=True, timeout=60, check=False
    ).stdout
    found: dict[str, str] = {}
    for line in sorted(listed.splitlines(), key=lambda line: line.startswith(":env:")):
        key, _, text = line.partition("=")
        try:
            value = " ".join(str(ast.literal_eval(text)).split())
        except (ValueError, SyntaxError):
            continue
        name = _UV_OF_PIP.get(key.rpartition(".")[2])
        if name:
            found[name] = value.replace(" ", ",") if name == "UV_FIND_LINKS" else value
    # What the caller sets for uv itself counts more.
    return {**found, **os.environ, "VIRTUAL_ENV": str(VENV)}


def install_with_uv() -> bool:
    """Brings `.venv` in line with the lock by uv; packages that are not in the lock go."""
    if not bootstrap_uv():
        return False
    uv = [str(VENV / "bin" / "uv"), "--quiet", "pip"]
    environment = uv_environment()
    target = ["--python", str(PYTHON)]
    return run([*uv, "sync", *target, "--require-hashes", str(LOCK)], environment) and run(
        [*uv, "install", *target, *_LOCAL], environment
    )


def install_with_pip() -> bool:
    """Installs the lock by pip, which takes a minute or two."""
    exact = ["--require-hashes", "--no-deps", "--progress-bar", "off", "-r", str(LOCK)]
    return pip("install", *exact) and pip("install", *_LOCAL)


def set_up() -> None:
    """Makes `.venv` current.

    Raises:
        SetupError: a step failed.
    """
    begun = time.monotonic()
    create_venv()
    print("installing requirements/dev.lock (about 300 MB to fetch the first time)", flush=True)
    if not install_with_uv():
        print("uv could not do it; trying pip", flush=True)
        if not install_with_pip():
            raise SetupError("installing requirements/dev.lock failed: is a package index within reach?")
    STAMP.write_text(json.dumps(wanted()) + "\n")
    print(f"packages ready in {time.monotonic() - begun:.0f} s", flush=True)


def main() -> int:
    try:
        with LOCK.open() as guard:
            fcntl.flock(guard, fcntl.LOCK_EX)  # two set-ups at once would undo each other
            if not is_current():
                set_up()
    except (SetupError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
