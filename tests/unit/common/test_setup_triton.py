"""Setting Triton's runtime up: when there is nothing to do, and what is said when it cannot be done."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from scripts.setup_triton import LOCK, SetupError, find_interpreter, is_current


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").touch()
    (tmp_path / "libpython3.11.so.1.0").touch()
    stamp = {"lock_sha256": "abc", "python": "3.11", "library_folder": str(tmp_path)}
    (tmp_path / "runtime.json").write_text(json.dumps(stamp))
    return tmp_path


def test_nothing_to_do_for_a_finished_runtime_of_this_lock(runtime: Path) -> None:
    assert is_current(runtime, "abc")
    assert not is_current(runtime, "abd")


@pytest.mark.parametrize("missing", ["runtime.json", "bin/python", "libpython3.11.so.1.0"])
def test_runtime_that_lacks_a_part_is_made_again(runtime: Path, missing: str) -> None:
    (runtime / missing).unlink()
    assert not is_current(runtime, "abc")


def test_without_libpython_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SetupError, match=r"apt install libpython3\.11"):
        find_interpreter()


def test_lock_has_pins_and_hashes_only() -> None:
    lines = [line for line in LOCK.read_text().splitlines() if not line.strip().startswith("#")]
    assert "://" not in LOCK.read_text()
    pins = [line for line in lines if not line.startswith(" ")]
    assert all("==" in pin and pin.endswith("\\") for pin in pins)
    assert "numpy==1." in LOCK.read_text()
