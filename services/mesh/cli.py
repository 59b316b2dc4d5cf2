"""The command line `mycel`."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from importlib import metadata
from typing import Final

_COMMANDS: Final = {
    "up": "run the whole mesh in the foreground",
    "ask": "ask a question and stream the answer",
    "status": "show each part of the running mesh, its address and its health",
    "models": "list the models and whether they can be asked now; pull more",
    "trace": "show the tree of one call",
    "config": "check a mesh.yaml",
    "demo": "start a mesh, show every level on real input, and stop it",
}
"""Each is a module of services.mesh.commands; only the one that is called is imported, for a fast start."""


def main(arguments: list[str] | None = None) -> None:
    """Runs a command and exits with its code."""
    given = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog="mycel", description="A gRPC mesh for a company's LLM traffic.")
    parser.add_argument("--version", action="version", version=f"mycel {metadata.version('mycel')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    wanted = next((word for word in given if not word.startswith("-")), "")
    for name, summary in _COMMANDS.items():
        command = commands.add_parser(name, help=summary)
        if name == wanted:
            importlib.import_module(f"services.mesh.commands.{name}").add(command)
    parsed = parser.parse_args(given)
    module = importlib.import_module(f"services.mesh.commands.{parsed.command}")
    try:
        code = module.run(parsed)
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        # The reader (`head`, say) went away: that is its right. Nothing more can be written, at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)
