"""Measures what providers' failures cost the caller: `make bench-reliability`.

Real Envoy, router and provider adapter as processes of their own, before upstreams that fail on the wire; everything on
loopback. `--only matrix,hedge` runs parts of it, `--scale 0.1` a tenth of the calls; `--write FILE` writes the tables
into the marked parts of a Markdown file.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, Final

from tests.benchmarks.reliability import (
    breaker,
    cancel,
    cost,
    fast_failure,
    hedge,
    matrix,
    memory,
    midstream,
    reference,
    report,
)
from tests.benchmarks.reliability.report import Section

PARTS: Final[Mapping[str, Callable[[float], Coroutine[Any, Any, Section]]]] = {
    "errors": lambda _: reference.run_errors(),
    "fields": lambda _: reference.run_fields(),
    "matrix": lambda scale: matrix.run(int(10_080 * scale), int(2_400 * scale)),
    "breaker": lambda scale: breaker.run(12 * scale),
    "fast_failure": lambda scale: fast_failure.run(int(1_500 * scale)),
    "hedge": lambda scale: hedge.run(int(2_000 * scale)),
    "midstream": lambda scale: midstream.run(200, step=max(int(1 / scale), 1)),
    "cancel": lambda scale: cancel.run(int(500 * scale)),
    "memory": lambda scale: memory.run(int(50_000 * scale)),
    "cost": lambda scale: cost.run(int(600 * scale)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts to run, of {', '.join(PARTS)}")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the calls (default: 1)")
    parser.add_argument("--write", type=Path, help="a Markdown file with marked parts")
    arguments = parser.parse_args()
    wanted = arguments.only.split(",")
    for name in wanted:
        if name not in PARTS:
            parser.error(f"no part is called {name!r}")
    print(report.machine(), flush=True)
    for name in wanted:
        begun = time.perf_counter()
        section = asyncio.run(PARTS[name](arguments.scale))
        print(f"\n## {name} ({time.perf_counter() - begun:.0f} s)\n\n{section.text}", flush=True)
        if arguments.write:
            report.write(arguments.write, section)


if __name__ == "__main__":
    main()
