"""`mycel models`: lists the models and whether they can be asked now."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console, Group
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


def models_table(models: Sequence[ModelStatus]) -> Group:
    """Gives the models as a table, prices in US dollars per million tokens, with what is to be said of them below."""
    table = Table(box=None, pad_edge=False)
    for heading in ("model", "provider", "state"):
        table.add_column(heading, no_wrap=True)
    for heading in ("context", "$ in", "$ out"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("can", overflow="fold")
    for model in models:
        state = Text("on", style="green") if model.on else Text("off", style="yellow")
        context = f"{model.context:,}" if model.context else ""
        prices = (f"{model.price_input:g}", f"{model.price_output:g}")
        can = ", ".join(name.replace("_", " ") for name in model.can)
        table.add_row(model.name, model.provider, state, context, *prices, can)
    notes = [f"{model.name}: {model.description}" for model in models if model.on and model.description]
    for why in sorted({model.why for model in models if not model.on}):
        names = ", ".join(model.name for model in models if model.why == why)
        notes.append(f"off: {names}: {why}")
    return Group(table, *(Text(note, style="dim") for note in ["", *notes]))
