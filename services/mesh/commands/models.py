"""`mycel models`: lists the models and whether they can be asked now."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console
from rich.table import Table
from rich.text import Text

from services.mesh.client import CommandError, running_mesh
from services.mesh.status import ModelStatus, mesh_models


def add(parser: argparse.ArgumentParser) -> None:
    parser.description = "Lists the models of the mesh that runs on the state folder, those that are off included."
    parser.add_argument("--json", action="store_true", help="print the list as JSON")


def run(arguments: argparse.Namespace) -> int:
    try:
        models = asyncio.run(mesh_models(running_mesh()))
    except CommandError as error:
        print(f"mycel models: {error}", file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps([asdict(model) for model in models], indent=2))
    else:
        Console().print(models_table(models))
    return 0


def models_table(models: Sequence[ModelStatus]) -> Table:
    """Gives a table of models: on or off, and why."""
    table = Table(box=None, pad_edge=False)
    for heading in ("model", "provider", "kind", "state"):
        table.add_column(heading, no_wrap=True)
    table.add_column("context", justify="right")
    table.add_column("about", overflow="fold")
    for model in models:
        state = Text("on", style="green") if model.on else Text("off", style="yellow")
        context = str(model.context) if model.context else ""
        table.add_row(
            model.name, model.provider, model.kind, state, context, model.description if model.on else model.why
        )
    return table
