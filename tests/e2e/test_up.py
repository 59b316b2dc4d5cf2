"""`mycel up`: bad starts are one line, parts that die come back, and nothing is left when it ends, however it ends."""

from __future__ import annotations

import os
import signal
import socket
import stat
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from services.mesh.control import ControlClient
from services.mesh.started import READY_MARK, started_mesh
from services.mesh.supervisor.keeper import processes_of
from tests.e2e.meshes import MESH, leftovers, mesh_folder, mycel, needs_setup, settings, wait_gone

pytestmark = pytest.mark.timeout(180)


def refused(environment: dict[str, str], *said: str) -> None:
    """Starts a mesh that must be refused at once, with one line that says all of that."""
    result = mycel("up", environment=environment, seconds=30)
    assert result.returncode != 0
    (line,) = result.stderr.splitlines()
    assert line.startswith("mycel up: ")
    for text in said:
        assert text in line
    assert READY_MARK not in result.stdout


def test_a_taken_port() -> None:
    needs_setup()
    with mesh_folder() as folder, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        refused(settings(folder, MYCEL_INGRESS=address), "MYCEL_INGRESS", address, "in use")


def test_a_state_folder_that_cannot_be_written() -> None:
    needs_setup()
    with mesh_folder() as folder:
        (folder / "state").write_text("a file, where a folder is needed")
        refused(settings(folder, MYCEL_INGRESS="127.0.0.1:0"), "MYCEL_HOME", str(folder / "state"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (MESH.replace("gguf: tiny.gguf", "guff: tiny.gguf"), ("mesh.yaml:6", "models.tiny.guff", "no such field")),
        (MESH.replace("low: [tiny]", "low: [huge]"), ("mesh.yaml:8", "huge")),
        ("providers: {", ("mesh.yaml", "not YAML")),
        (MESH.replace("gguf: tiny.gguf, ", ""), ("models.tiny.gguf", "is needed")),
        (MESH.replace("tiny.gguf", "missing.gguf"), ("models.tiny.gguf", "missing.gguf", "No such file")),
        (MESH.replace("tiny.gguf", "mesh.yaml"), ("models.tiny.gguf", "not a GGUF file")),
    ],
)
def test_a_wrong_configuration_or_model_file(text: str, said: tuple[str, ...]) -> None:
    needs_setup()
    with mesh_folder(text) as folder:
        refused(settings(folder, MYCEL_INGRESS="127.0.0.1:0"), *said)


def test_a_model_file_that_is_cut_short() -> None:
    needs_setup()
    with mesh_folder() as folder:
        file = folder / "tiny.gguf"
        file.write_bytes(file.read_bytes()[:20_000])
        refused(
            settings(folder, MYCEL_INGRESS="127.0.0.1:0"), "inference did not get ready", "tiny", "not a whole GGUF"
        )


def test_a_missing_runtime(tmp_path: Path) -> None:
    with mesh_folder() as folder:
        refused(settings(folder, MYCEL_INGRESS="127.0.0.1:0", MYCEL_RUNTIME=str(tmp_path)), "make setup")


def test_an_address_that_others_reach_needs_keys() -> None:
    needs_setup()
    with mesh_folder() as folder:
        refused(settings(folder, MYCEL_INGRESS="0.0.0.0:0"), "router did not start", "tenants with keys")


def test_ctrl_c_leaves_nothing() -> None:
    needs_setup()
    with mesh_folder() as folder, started_mesh(folder / "state", settings(folder)) as mesh:
        assert stat.S_IMODE(Path(mesh.state.run_dir).stat().st_mode) == 0o700
        until(lambda: "  off: gpt (OPENAI_API_KEY is not set)" in mesh.output)
        assert any(line.endswith("Models: tiny.") for line in mesh.output)
        running = leftovers(mesh.state)
        assert len(running) > 8, running  # this is how the tests would see what is left
        mesh.stop(signal.SIGINT)
        assert mesh.process.returncode == 0
        assert leftovers(mesh.state) == []
        assert mesh.output[-1] == "stopped"
        assert not any("killed" in line for line in mesh.output)


def test_sigkill_of_the_supervisor_leaves_nothing() -> None:
    needs_setup()
    with mesh_folder() as folder:
        with started_mesh(folder / "state", settings(folder)) as mesh:
            mesh.stop(signal.SIGKILL)
            assert wait_gone(mesh.state) == []
        # What is left in the state folder does not keep the next one from starting.
        with started_mesh(folder / "state", settings(folder)) as mesh:
            mesh.stop(signal.SIGTERM)
            assert mesh.process.returncode == 0


def test_a_second_instance_on_the_same_state() -> None:
    needs_setup()
    with mesh_folder() as folder, started_mesh(folder / "state", settings(folder)) as mesh:
        refused(settings(folder, MYCEL_INGRESS="127.0.0.1:0"), "already runs", str(folder / "state"))
        assert mesh.process.poll() is None
        status = mycel("status", environment=settings(folder))
        assert status.returncode == 0, status.stdout


def test_only_the_provider_service_is_given_the_providers_keys() -> None:
    needs_setup()
    with mesh_folder() as folder, started_mesh(folder / "state", settings(folder, OPENAI_API_KEY="sk-canary")) as mesh:
        knowing = [
            process.cmdline()[-1]
            for process in map(psutil.Process, processes_of(mesh.state.run_id))
            if "sk-canary" in process.environ().values()
        ]
        assert knowing == ["services.provider"]
        assert "sk-canary" not in "".join(path.read_text() for path in (folder / "state" / "logs").iterdir())


@pytest.mark.parametrize("name", ["router", "envoy", "triton"])
def test_a_part_that_is_killed_comes_back_and_answers(name: str) -> None:
    needs_setup()
    with mesh_folder() as folder, started_mesh(folder / "state", settings(folder)) as mesh:
        client = ControlClient(mesh.state.socket("control"))

        def part() -> dict[str, object]:
            return next(part for part in client.state()["parts"] if part["name"] == name)

        pid = int(str(part()["pid"]))
        os.kill(pid, signal.SIGKILL)
        until(lambda: part()["restarts"] == 1 and part()["state"] == "ready")
        assert part()["pid"] != pid
        environment = settings(folder, MYCEL_INGRESS=mesh.state.ingress)
        until(lambda: mycel("ask", "hello", "--cache", "off", environment=environment).returncode == 0)
        assert any(f"{name} is started again: it ended (killed by SIGKILL)" in line for line in mesh.output)


@pytest.mark.parametrize(
    ("number", "whose"), [(signal.SIGKILL, "model"), (signal.SIGSTOP, "model"), (signal.SIGSTOP, "server")]
)
def test_a_model_or_server_that_dies_or_hangs_comes_back(number: signal.Signals, whose: str) -> None:
    needs_setup()
    with mesh_folder() as folder, started_mesh(folder / "state", settings(folder)) as mesh:
        client = ControlClient(mesh.state.socket("control"))
        part = next(part for part in client.state()["parts"] if part["name"] == "triton")
        server = psutil.Process(part["pid"])
        model = next(one for one in server.children() if "stub" in one.exe())
        (server if whose == "server" else model).send_signal(number)
        environment = settings(folder, MYCEL_INGRESS=mesh.state.ingress)
        until(lambda: any("triton is ready again" in line for line in mesh.output))
        until(lambda: mycel("ask", "hello", "--cache", "off", environment=environment).returncode == 0)
        assert not psutil.wait_procs([server, model], timeout=20)[1], "the old ones linger"


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.1)
