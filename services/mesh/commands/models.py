"""`mycel models`: lists the models and whether they can be asked now, and the files that were pulled."""

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

from services.common.settings import home
from services.mesh.client import CommandError, running_mesh
from services.mesh.commands import models_pull
from services.mesh.pull.serving import pulled_files
from services.mesh.status import ModelStatus, mesh_models


def add(parser: argparse.ArgumentParser) -> None:
    parser.description = "Lists the models of the mesh that runs on the state folder, those that are off included."
    parser.add_argument("--json", action="store_true", help="print the list as JSON")
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    listing = actions.add_parser("list", help="list them, and the files that were pulled; no mesh need run")
    listing.add_argument("--json", action="store_true", help="print the list as JSON")
    models_pull.add(actions.add_parser("pull", help="bring a model's file here"))


def run(arguments: argparse.Namespace) -> int:
    match arguments.action:
        case "pull":
            return models_pull.run(arguments)
        case "list":
            return _list(arguments)
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


def _list(arguments: argparse.Namespace) -> int:
    """Lists what the mesh serves, if one runs, and the files that were pulled."""
    files = pulled_files(home() / models_pull.FOLDER)
    try:
        models = asyncio.run(mesh_models(running_mesh()))
        note = ""
    except CommandError as error:
        models, note = [], str(error)
    if arguments.json:
        told = {
            "models": [asdict(model) for model in models],
            "files": [{"path": str(file), "bytes": file.stat().st_size} for file in files],
        }
        print(json.dumps(told, indent=2))
        return 0
    console = Console()
    console.print(Text(note, style="dim") if note else models_table(models))
    console.print()
    for file in files:
        console.print(f"{file}  {file.stat().st_size / 2**20:,.1f} MiB", soft_wrap=True, highlight=False)
    if not files:
        console.print(Text("no files were pulled: mycel models pull", style="dim"))
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
