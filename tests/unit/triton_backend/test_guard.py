"""The guard beside a model's process, and what it takes for trouble."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from mycel_llamacpp import guard
from mycel_llamacpp.progress import Progress


@contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe()
    try:
        yield read, write
    finally:
        os.close(read)
        os.close(write)


def test_a_closed_pipe_is_a_death() -> None:
    read, write = os.pipe()
    os.write(write, b"..")
    os.close(write)
    assert guard.wait_for_trouble(read) == "died"
    os.close(read)


def test_a_farewell_is_no_trouble() -> None:
    with pipe() as (read, write):
        os.write(write, b".q")
        assert guard.wait_for_trouble(read) == ""


def test_silence_is_a_hang() -> None:
    with pipe() as (read, write):
        os.write(write, b".")
        assert guard.wait_for_trouble(read, look_seconds=0.01, silent_looks=2) == "hangs"


@pytest.mark.parametrize(("farewell", "server_lives"), [(b"", False), (b"q", True)])
def test_it_ends_the_server_of_a_model_that_died(farewell: bytes, server_lives: bool) -> None:
    sleeper = [sys.executable, "-c", "import time; time.sleep(60)"]
    with subprocess.Popen(sleeper) as server, subprocess.Popen(sleeper) as model:
        arguments = [sys.executable, "-I", "-S", guard.__file__, str(server.pid), str(model.pid), "tiny"]
        ended = subprocess.run(arguments, input=farewell, capture_output=True, timeout=20, check=True)
        try:
            if not server_lives:
                assert server.wait(20) == -9
                assert model.wait(20) == -9
                assert b"tiny: the model's process died" in ended.stderr
            assert (server.poll() is None) == server_lives
        finally:
            server.kill()
            model.kill()


def test_progress() -> None:
    progress = Progress(stuck_seconds=-1)
    assert not progress.is_stuck(), "nothing was asked for"
    progress.begin()
    assert progress.is_stuck()
    progress.end()
    assert not progress.is_stuck()
    progress = Progress(stuck_seconds=60)
    progress.begin()
    progress.moved()
    assert not progress.is_stuck()
