"""Generates the Python stubs under gen/ and the descriptor set that Envoy transcodes with.

`python scripts/generate.py` writes them; `--check` generates into a temporary folder and fails when the committed files
differ. The descriptor set (deploy/envoy/mycel.desc.pb) contains google.rpc's error details, without which Envoy gives
errors an empty body.
"""

from __future__ import annotations

import argparse
import filecmp
import shutil
import sys
import tempfile
from pathlib import Path

import google.rpc
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
GOOGLEAPIS = ROOT / "build" / "googleapis"
DESCRIPTORS = Path("deploy") / "envoy" / "mycel.desc.pb"


def collect_googleapis() -> None:
    """Copies google.api and google.rpc out of the installed package, for protoc and for buf."""
    package = Path(next(iter(google.rpc.__path__))).parent
    for name in (
        "api/annotations",
        "api/http",
        "api/httpbody",
        "rpc/code",
        "rpc/error_details",
        "rpc/status",
    ):
        target = GOOGLEAPIS / "google" / f"{name}.proto"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(package / f"{name}.proto", target)


def generate(out: Path) -> None:
    """Writes gen/ and the descriptor set below `out`."""
    well_known = Path(protoc.__file__).parent / "_proto"
    files = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.rglob("*.proto"))
    services = [name for name in files if name.endswith("_service.proto")]
    gen = out / "gen"
    gen.mkdir(parents=True, exist_ok=True)
    (out / DESCRIPTORS).parent.mkdir(parents=True, exist_ok=True)
    include = [f"-I{path}" for path in (PROTOS, GOOGLEAPIS, well_known)]
    run(*include, f"--python_out={gen}", f"--mypy_out={gen}", *files)
    run(*include, f"--grpc_python_out={gen}", f"--mypy_grpc_out=only_async:{gen}", *services)
    run(
        *include,
        "--include_imports",
        f"--descriptor_set_out={out / DESCRIPTORS}",
        "google/rpc/error_details.proto",
        "google/rpc/status.proto",
        *files,
    )
    for package in gen.glob("mycel/**/"):
        (package / "__init__.py").touch()
    (gen / "mycel" / "py.typed").touch()


def run(*arguments: str) -> None:
    if protoc.main(["protoc", *arguments]) != 0:
        sys.exit("protoc failed")


def differences(left: Path, right: Path) -> list[str]:
    """Names the files of the generated tree that are missing or other on one side."""

    def tree(base: Path) -> set[Path]:
        found = {path.relative_to(base) for path in (base / "gen").rglob("*") if path.is_file()}
        return {path for path in found if "__pycache__" not in path.parts} | {DESCRIPTORS}

    names = tree(left) | tree(right)
    return sorted(
        str(name)
        for name in names
        if not (left / name).is_file()
        or not (right / name).is_file()
        or not filecmp.cmp(left / name, right / name, shallow=False)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail when the committed files differ")
    arguments = parser.parse_args()
    collect_googleapis()
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder)
        generate(made)
        if not arguments.check:
            # Only now, when everything could be made, is what was there replaced.
            shutil.rmtree(ROOT / "gen", ignore_errors=True)
            shutil.copytree(made, ROOT, dirs_exist_ok=True)
            return
        differing = differences(ROOT, made)
    if differing:
        sys.exit("generated files are out of date, run `make generate`:\n  " + "\n  ".join(differing))


if __name__ == "__main__":
    main()
