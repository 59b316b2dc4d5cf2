"""`mycel status`: shows each part of the running mesh, its version, address and health."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys

from rich.console import Console
from rich.table import Table
from rich.text import Text

from services.mesh.client import CommandError, running_mesh
from services.mesh.commands.models import models_table
from services.mesh.control import ControlError
from services.mesh.status import MeshStatus, mesh_status


def add(parser: argparse.ArgumentParser) -> None:
    parser.description = "Asks each part of the mesh that runs on the state folder. Exits 1 when one is not well."
    parser.add_argument("--json", action="store_true", help="print everything as JSON")


def run(arguments: argparse.Namespace) -> int:
    try:
        status = asyncio.run(mesh_status(running_mesh()))
    except (CommandError, ControlError) as error:
        print(f"mycel status: {error}", file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps(status.to_json(), indent=2))
    else:
        _show(status, Console())
    return 0 if status.ok else 1


def _show(status: MeshStatus, console: Console) -> None:
    memory = sum(part.memory_mib for part in status.parts)
    title = f"Mycel {status.version} at http://{status.ingress}, {memory:.0f} MiB resident"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for heading in ("part", "version", "health"):
        table.add_column(heading, no_wrap=True)
    for heading in ("ms", "MiB", "restarts"):
        table.add_column(heading, justify="right")
    table.add_column("address", overflow="fold")
    for part in status.parts:
        health = Text(part.health, style="green" if part.ok else "bold red")
        figures = (f"{part.milliseconds:.0f}", f"{part.memory_mib:.0f}", str(part.restarts))
        table.add_row(part.name, part.version, health, *figures, part.address)
    console.print(table)
    console.print()
    console.print(models_table(status.models))
