"""Where a running mesh is: its lock, its run folder, and `run.json`, by which the other commands find it."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from services.mesh.supervisor.errors import UpError
from services.mesh.supervisor.keeper import end_all, remove_leftovers

_LOCK: Final = "up.lock"
_STATE: Final = "run.json"
_LONGEST_SOCKET_PATH: Final = 107
_LONGEST_SOCKET_NAME: Final = len("/inference.sock")


@dataclass(frozen=True, slots=True)
class RunState:
    """What `run.json` holds."""

    run_id: str
    version: str
    pid: int
    """The supervisor's."""
    ingress: str
    """`host:port`."""
    run_dir: str
    config: str
    shm_prefix: str
    otlp_grpc: str
    otlp_http: str
    triton_grpc: str
    """Where Triton answers gRPC, whether it was started here or not; empty when there is none."""
    triton_http: str
    """Empty when it was not started here, and so on."""
    triton_metrics: str

    def socket(self, name: str) -> Path:
        """Gives the Unix socket of a service, of Envoy's `mesh` and `admin`, or of `control`."""
        return Path(self.run_dir) / f"{name}.sock"


@contextmanager
def exclusive(home: Path) -> Iterator[None]:
    """Holds the state folder for one mesh at a time; the lock goes with the process, however it ends.

    Raises:
        UpError: another mesh runs on it.
    """
    with (home / _LOCK).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read().strip()
            by = f" (process {owner})" if owner else ""
            raise UpError(f"a mesh already runs on the state in {home}{by}; stop it, or set MYCEL_HOME") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


@contextmanager
def run_folder() -> Iterator[Path]:
    """Makes a private folder for sockets, short enough for their paths, and removes it in the end.

    Raises:
        UpError: none could be made.
    """
    try:
        folder = _make_run_folder()
    except OSError as error:
        raise UpError(f"no folder for sockets could be made: {error}") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _make_run_folder() -> Path:
    for base in (os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir()):
        if base and os.access(base, os.W_OK):
            folder = Path(tempfile.mkdtemp(prefix="mycel-", dir=base))
            if len(str(folder)) + _LONGEST_SOCKET_NAME <= _LONGEST_SOCKET_PATH:
                return folder
            folder.rmdir()
    return Path(tempfile.mkdtemp(prefix="mycel-", dir="/tmp"))


def write_state(home: Path, state: RunState) -> None:
    """Writes `run.json`, readable by the owner alone."""
    temporary = home / f"{_STATE}.new"
    temporary.write_text(json.dumps(asdict(state), indent=2) + "\n", encoding="utf-8")
    temporary.chmod(0o600)
    temporary.replace(home / _STATE)


def read_state(home: Path) -> RunState | None:
    """Reads `run.json`; None when there is none, or it is another version's."""
    try:
        values: Mapping[str, object] = json.loads((home / _STATE).read_text(encoding="utf-8"))
        return RunState(**values)  # type: ignore[arg-type]  # another shape raises TypeError
    except (OSError, ValueError, TypeError):
        return None


def remove_state(home: Path) -> None:
    (home / _STATE).unlink(missing_ok=True)


def clear_remains(home: Path) -> None:
    """Ends and removes what a mesh left that was killed together with its keeper. To be called with the lock held."""
    state = read_state(home)
    if state is not None:
        end_all(state.run_id, polite=2.0)
        if Path(state.run_dir).name.startswith("mycel-"):
            remove_leftovers(state.run_dir, state.shm_prefix)
        remove_state(home)
