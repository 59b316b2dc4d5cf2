"""docs/reliability.md says what the code does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.reliability.__main__ import PARTS
from tests.benchmarks.reliability.reference import error_table, field_table

_PAGE = Path(__file__).resolve().parents[3] / "docs" / "reliability.md"
_COMMAND = ".venv/bin/python -m tests.benchmarks.reliability --only errors,fields --write docs/reliability.md"


@pytest.mark.parametrize("table", [error_table(), field_table()], ids=["errors", "fields"])
def test_the_tables_are_those_of_the_code(table: str) -> None:
    assert table in _PAGE.read_text(encoding="utf-8"), f"run {_COMMAND}"


def test_every_part_of_the_benchmark_has_its_place() -> None:
    text = _PAGE.read_text(encoding="utf-8")
    for name in PARTS:
        assert text.count(f"<!-- {name}:begin -->\n") == text.count(f"<!-- {name}:end -->\n") == 1
