"""`mycel models pull`: brings a model's file here and prints the line of mesh.yaml that serves it."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from services.common.settings import home
from services.mesh.pull.download import Report
from services.mesh.pull.errors import PullError
from services.mesh.pull.pull import Pulled, pull
from services.mesh.pull.serving import serving_line
from services.mesh.pull.source import HUB_VARIABLE, parse_source

FOLDER: Final = "models"
"""Under the state folder."""
_SHA256: Final = re.compile(r"[0-9a-fA-F]{64}")


def add(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Brings a GGUF (or safetensors) file into the state folder's `models`, whole and checked; prints the line of "
        "mesh.yaml that serves it. Broken off, it goes on where it was. HF_TOKEN is sent to the hub when it is set."
    )
    where = f"https:// address, path, or org/repo/file.gguf on the hub (another one with {HUB_VARIABLE})"
    parser.add_argument("source", help=where)
    parser.add_argument("--sha256", type=_hash, help="the hash that the content must have")
    parser.add_argument("--replace", action="store_true", help="replace a file of that name that is here already")


def run(arguments: argparse.Namespace) -> int:
    try:
        source = parse_source(arguments.source, hashed=bool(arguments.sha256))
        with _progress(source.name) as report:
            pulled = pull(source, home() / FOLDER, report, sha256=arguments.sha256 or "", replace=arguments.replace)
    except PullError as error:
        print(f"mycel models pull: {error}", file=sys.stderr)
        return 1
    _tell(pulled)
    return 0


def _tell(pulled: Pulled) -> None:
    facts = pulled.facts
    about = f", {facts.name or facts.architecture}" if facts else ""
    print(f"{pulled.path}: {pulled.path.stat().st_size:,} bytes{about}, sha256 {pulled.sha256}")
    if facts is None:
        print("Triton's vLLM backend reads safetensors: see deploy/triton/README.md")
        return
    print("To serve it, put this line under `models:` in mesh.yaml:\n")
    print(serving_line(pulled))


def _hash(text: str) -> str:
    if not _SHA256.fullmatch(text):
        raise argparse.ArgumentTypeError("64 hexadecimal digits are needed")
    return text.lower()


@contextmanager
def _progress(name: str) -> Iterator[Report]:
    """Shows a bar on a terminal, and nothing elsewhere."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(name, total=None)

        def report(here: int, size: int) -> None:
            bar.update(task, completed=here, total=size or None)

        yield report
