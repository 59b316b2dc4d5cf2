"""`mycel status`: shows each part of the running mesh, its version, address and health."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from services.mesh.client import CommandError, running_mesh
from services.mesh.commands.models import models_table
from services.mesh.control import ControlError
from services.mesh.providers import ProviderHealth
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
    console.print(_providers_table(status.providers))
    console.print()
    console.print(models_table(status.models))


def _providers_table(providers: Sequence[ProviderHealth]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("provider", "state", "breaker"):
        table.add_column(heading, no_wrap=True)
    table.add_column("first token", justify="right")
    table.add_column("last error", overflow="fold")
    told = any(provider.requests_left or provider.tokens_left for provider in providers)
    for heading in ("requests left", "tokens left") if told else ():
        table.add_column(heading, no_wrap=True)
    for provider in providers:
        on = Text("on", style="green") if provider.on else Text("off", style="yellow")
        calm = provider.breaker == "closed"
        wait = f", {provider.until_probe_seconds:.0f} s" if provider.breaker == "open" else ""
        breaker = Text(provider.breaker + wait, style="" if calm else "bold red")
        first = "" if provider.first_token_p50_ms is None else f"{provider.first_token_p50_ms:.0f} ms"
        error = f"{provider.last_error} at {provider.last_error_at}" if provider.last_error else ""
        left = (provider.requests_left, provider.tokens_left) if told else ()
        table.add_row(provider.name, on, breaker, first, error, *left)
    return table
