"""`mycel config check`: checks a mesh.yaml."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from services.common.config import ConfigError, MeshConfig, load_config


def add(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    check = actions.add_parser("check", help="say whether the file is right, and where it is not")
    check.add_argument("file", nargs="?", type=Path, help="default: MYCEL_CONFIG, ./mesh.yaml or the built-in one")
    check.add_argument("--json", action="store_true", help="print the whole configuration, defaults filled in")


def run(arguments: argparse.Namespace) -> int:
    try:
        loaded = load_config(arguments.file)
    except ConfigError as error:
        print(f"mycel config check: {error}", file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps(loaded.mesh.model_dump(mode="json"), indent=2))
    else:
        name = "the built-in configuration" if loaded.is_default else str(loaded.path)
        print(f"{name} is right: {_summary(loaded.mesh)}")
    return 0


def _summary(mesh: MeshConfig) -> str:
    counts = {
        "provider": len(mesh.providers),
        "model": len(mesh.models),
        "route": len(mesh.routes),
        "tenant": len(mesh.tenants),
    }
    return ", ".join(f"{count} {name}{'' if count == 1 else 's'}" for name, count in counts.items())
