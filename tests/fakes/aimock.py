"""A mock of the providers' APIs written by others (npm: @copilotkit/aimock), installed and started for tests."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

_NAME: Final = "@copilotkit/aimock"
_VERSION: Final = "1.43.0"
_INTEGRITY: Final = "sha512-V8D8cjSMtAR4rHaD2ulp3DR/ZguXQjDNOqwKDNvjb/OJL/KR1I0SDf5xpRCd+TYKjhmf9fM8Xpg3QBKPmV9Kmw=="
_FOLDER: Final = Path(__file__).resolve().parents[2] / "build" / f"aimock-{_VERSION}"
_INSTALL_SECONDS: Final = 90


def install() -> Path:
    """Gives the mock's folder; installs it the first time. Without node the test is skipped, but not in CI."""
    package = _FOLDER / "node_modules" / _NAME
    if not (_FOLDER / "installed").exists():
        try:
            _install()
        except (OSError, subprocess.SubprocessError) as error:
            if os.environ.get("CI") == "true":
                raise
            pytest.skip(f"aimock cannot be installed: {error}")
    return package


def _install() -> None:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise FileNotFoundError("node and npm are not installed")
    _FOLDER.mkdir(parents=True, exist_ok=True)
    (_FOLDER / "package.json").write_text('{"private": true}\n')
    command = [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", "--save-exact", f"{_NAME}@{_VERSION}"]
    subprocess.run(command, cwd=_FOLDER, check=True, capture_output=True, timeout=_INSTALL_SECONDS)
    lock = json.loads((_FOLDER / "package-lock.json").read_text())
    assert lock["packages"][f"node_modules/{_NAME}"]["integrity"] == _INTEGRITY
    (_FOLDER / "installed").touch()


@contextmanager
def aimock(folder: Path, fixtures: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Runs the mock with fixtures of its own format, and gives its address.

    Args:
        folder: where the fixtures are written.
        fixtures: what it answers to what.
    """
    package = install()
    file = folder / "fixtures.json"
    file.write_text(json.dumps({"fixtures": list(fixtures)}))
    command = ["node", str(package / "dist" / "cli.js"), "-p", "0", "-f", str(file), "--strict", "-c", "5"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            lines: list[str] = []
            for line in process.stdout:
                lines.append(line)
                if "listening on " in line:
                    break
            else:
                pytest.fail(f"aimock did not start: {lines}")
            yield line.rsplit("listening on ", 1)[1].strip()
        finally:
            process.terminate()
