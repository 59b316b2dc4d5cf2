"""`mycel up`: runs the whole mesh in the foreground."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys

from services.mesh.supervisor.errors import UpError
from services.mesh.supervisor.up import up


def add(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Starts Envoy, Triton and the four services, says when calls get through, and runs until Ctrl-C. "
        "Settings: MYCEL_CONFIG (mesh.yaml), MYCEL_INGRESS (default 127.0.0.1:8080), MYCEL_HOME (state, default "
        ".mycel), OTEL_EXPORTER_OTLP_ENDPOINT (where traces are passed on to)."
    )


def run(_arguments: argparse.Namespace) -> int:
    try:
        asyncio.run(up(os.environ, _say))
    except UpError as error:
        print(f"mycel up: {error}", file=sys.stderr)
        return 2
    return 0


def _say(line: str) -> None:
    """Prints a line. A reader that went away (`mycel up | head`) is no reason to stop the mesh."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
