"""The fault matrix once over, and an answer killed at every place, with Envoy, router and provider as processes."""

from __future__ import annotations

import os

import pytest

from services.mesh.envoy import EnvoyError, find_envoy
from tests.benchmarks.reliability import matrix, midstream, speech
from tests.benchmarks.reliability.faults import FAULTS


@pytest.fixture(autouse=True)
def _needs_envoy() -> None:
    try:
        find_envoy()
    except EnvoyError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))


async def test_no_failure_reaches_the_caller() -> None:
    cells = await matrix.measure(1, matrix.EVERY_TIME)
    assert {(kind, fault) for kind in speech.KINDS for fault in FAULTS} <= set(cells)
    assert [failure for seen in cells.values() for failure in seen.failures] == []
    unmet = [cell for cell, seen in cells.items() if cell[1] in FAULTS and seen.met != 2]
    assert not unmet, "the fault was not met by the whole call and the streamed one"


async def test_the_text_is_whole_wherever_it_broke_off() -> None:
    section = await midstream.run(24)
    assert section.text.count("| met |") == len(speech.KINDS), section.text
