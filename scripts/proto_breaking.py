"""Compares protos/ with an earlier version and fails when old clients would break (`buf breaking`, WIRE_JSON).

The earlier version is the last release's tag; without one, the branch main. `make check` runs this.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from generate import GOOGLEAPIS, ROOT, collect_googleapis

BUF = Path(sys.executable).with_name("buf")


def git(*arguments: str) -> bytes | None:
    """Runs git; None when it fails."""
    result = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=False)
    return result.stdout if result.returncode == 0 else None


def earlier_version() -> str | None:
    """Names what to compare with; None when there is nothing."""
    tag = git("describe", "--tags", "--abbrev=0", "--match", "v*")
    if tag:
        return tag.decode().strip()
    for branch in ("origin/main", "main"):
        if git("cat-file", "-e", f"{branch}:buf.yaml") is not None:
            return branch
    return None


def unpack(version: str, folder: Path) -> None:
    """Writes that version's protos into `folder`, as a workspace that buf can build."""
    archive = git("archive", version, "protos", "buf.yaml")
    if archive is None:
        sys.exit(f"git archive {version} failed")
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")
    shutil.copytree(GOOGLEAPIS, folder / GOOGLEAPIS.relative_to(ROOT))


def main() -> None:
    version = earlier_version()
    if version is None:
        print("buf breaking: no earlier version to compare with")
        return
    collect_googleapis()
    with tempfile.TemporaryDirectory() as folder:
        unpack(version, Path(folder))
        code = subprocess.run([str(BUF), "breaking", "--against", folder], cwd=ROOT, check=False).returncode
    if code != 0:
        sys.exit(f"the protos break clients of {version}")
    print(f"buf breaking: nothing breaks clients of {version}")


if __name__ == "__main__":
    main()
