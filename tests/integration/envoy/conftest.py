"""Fixtures: a door for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.integration.envoy.door import Door, open_door


@pytest_asyncio.fixture
async def door() -> AsyncIterator[Door]:
    async with open_door() as running:
        yield running
