"""`mycel trace`: shows the tree of one call."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from typing import Any, Final, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from services.mesh.client import CommandError, running_mesh
from services.mesh.control import ControlClient, ControlError

_SHOWN: Final = (
    "mycel.cache",
    "mycel.tier",
    "mycel.model",
    "gen_ai.request.model",
    "gen_ai.usage.output_tokens",
    "upstream_cluster",
)
"""Attributes that the table has room for; `--json` has them all."""

_BAR_WIDTH: Final = 24
_COLUMNS: Final[tuple[tuple[str, Literal["left", "right"]], ...]] = (
    ("span", "left"),
    ("service", "left"),
    ("at ms", "right"),
    ("ms", "right"),
    ("", "left"),
    ("", "left"),
)
_NEEDED: Final = 4
"""How many of the columns are shown on any terminal."""
_NARROWEST: Final = 24
_NO_TERMINAL_WIDTH: Final = 200


def add(parser: argparse.ArgumentParser) -> None:
    parser.description = "Shows what each part did in one call, by the id that `mycel ask` and x-mycel-trace-id give."
    parser.add_argument("id", nargs="?", default="last", help="a trace id or its beginning (default: the last call)")
    parser.add_argument("--json", action="store_true", help="print the tree as JSON")


def run(arguments: argparse.Namespace) -> int:
    try:
        trace = ControlClient(running_mesh().socket("control")).trace(arguments.id)
    except (CommandError, ControlError) as error:
        print(f"mycel trace: {error}", file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps(trace, indent=2))
    else:
        show_trace(trace, Console(width=None if sys.stdout.isatty() else _NO_TERMINAL_WIDTH))
    return 0


def show_trace(trace: dict[str, Any], console: Console) -> None:
    """Prints a trace (see `trace_json`) as a table: the tree, when each step began and how long it took."""
    console.print(f"trace {trace['trace_id']}: {trace['ms']:.1f} ms, {trace['spans']} spans")
    rows = [_row(prefix, node, trace["ms"]) for prefix, node in _walk(trace["roots"])]
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    widths = [max([len(heading), *(len(row[index]) for row in rows)]) for index, (heading, _) in enumerate(_COLUMNS)]
    # On a narrow terminal the tree is cut, then the columns at the right: the times count most.
    beside = sum(widths[1:_NEEDED]) + _NEEDED - 1
    widths[0] = min(widths[0], max(_NARROWEST, console.width - beside))
    room = console.width
    for (heading, justify), width in zip(_COLUMNS, widths, strict=True):
        if min(room, width) <= 0:
            break
        table.add_column(heading, width=min(room, width), no_wrap=True, overflow="ellipsis", justify=justify)
        room -= width + 1
    for row in rows:
        table.add_row(*row[: len(table.columns)])
    console.print(table)
    if trace["dropped_spans"]:
        console.print(f"{trace['dropped_spans']} further spans were not kept")


def _row(prefix: str, node: dict[str, Any], total: float) -> tuple[Text, ...]:
    return (
        Text(prefix, style="dim") + Text(_name(node), style="red" if "error" in node else ""),
        Text(node["service"]),
        Text(f"{node['offset_ms']:.1f}"),
        Text(f"{node['ms']:.1f}"),
        Text(_bar(node, total).ljust(_BAR_WIDTH), style="cyan"),
        Text(_facts(node), style="dim"),
    )


def _walk(nodes: list[dict[str, Any]], above: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Gives every node with the lines that lead to it."""
    for index, node in enumerate(nodes):
        last = index == len(nodes) - 1
        joint = "" if not above and len(nodes) == 1 else ("└─ " if last else "├─ ")
        yield above + joint, node
        yield from _walk(node["children"], above + ("   " if last else "│  "))


def _name(node: dict[str, Any]) -> str:
    """Gives a span's name, that of an rpc without its package."""
    service, slash, method = str(node["name"]).lstrip("/").rpartition("/")
    return f"{service.rpartition('.')[2]}{slash}{method} [{node['kind']}]"


def _bar(node: dict[str, Any], total: float) -> str:
    if not total:
        return ""
    start: int = min(_BAR_WIDTH - 1, int(node["offset_ms"] / total * _BAR_WIDTH))
    length: int = max(1, round(node["ms"] / total * _BAR_WIDTH))
    return " " * start + "━" * min(length, _BAR_WIDTH - start)


def _facts(node: dict[str, Any]) -> str:
    attributes: dict[str, object] = node["attributes"]
    facts = [f"{name.rpartition('.')[2]}={attributes[name]}" for name in _SHOWN if name in attributes]
    error = [" ".join(str(node["error"]).split())] if "error" in node else []
    return " ".join([*error, *facts])
