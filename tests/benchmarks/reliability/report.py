"""Tables: printed, and written into the marked parts of a Markdown file."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure."""

    name: str
    value: str
    bar: str = "-"
    """What is to be reached, in words."""
    met: bool | None = None
    """None when there is no bar."""


@dataclass(frozen=True, slots=True)
class Section:
    """What one part of the benchmark found."""

    name: str
    """As `--only` takes it; the markers in the file are `<!-- NAME:begin -->` and `<!-- NAME:end -->`."""
    text: str


def figures(found: Iterable[Figure]) -> str:
    """Gives a table of figures."""
    marks = {True: "met", False: "**missed**", None: "-"}
    rows = [(figure.name, figure.value, figure.bar, marks[figure.met]) for figure in found]
    return table(("what", "measured", "bar", ""), rows)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def share(values: Sequence[float], part: float) -> float:
    """Gives the quantile of some values."""
    ordered = sorted(values)
    return ordered[min(int(part * len(ordered)), len(ordered) - 1)]


def milliseconds(seconds: float) -> str:
    value = seconds * 1e3
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}"


def write(file: Path, section: Section) -> None:
    """Replaces a section's part of a file.

    Raises:
        ValueError: the file has no such part.
    """
    begin, end = f"<!-- {section.name}:begin -->", f"<!-- {section.name}:end -->"
    text = file.read_text(encoding="utf-8")
    before, found, after = text.partition(begin)
    _, closed, after = after.partition(end)
    if not found or not closed:
        raise ValueError(f"{file} has no part {begin} … {end}")
    file.write_text(f"{before}{begin}\n{section.text}\n{end}{after}", encoding="utf-8")


def machine() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    model = next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.machine())
    return f"{psutil.cpu_count()} cores ({model}), {psutil.virtual_memory().total / 2**30:.0f} GiB"
