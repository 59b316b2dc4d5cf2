"""Keeps the catalogue in step with what the backends tell of their models."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Final

from services.common.errors import MycelError
from services.router.catalogue import Catalogue
from services.router.ports import BackendPort

_log = logging.getLogger(__name__)

_PERIOD_SECONDS: Final = 5.0
_RETRY_SECONDS: Final = 0.5


async def refresh_catalogue(catalogue: Catalogue, backends: Mapping[str, BackendPort]) -> None:
    """Asks each backend for its models now and then, until cancelled.

    While a backend does not answer, what it last told stands.
    """
    async with asyncio.TaskGroup() as group:
        for name, backend in backends.items():
            group.create_task(_refresh_one(catalogue, name, backend))


async def _refresh_one(catalogue: Catalogue, name: str, backend: BackendPort) -> None:
    failing = False
    while True:
        try:
            catalogue.update(name, await backend.list_models())
            failing = False
        except MycelError as error:
            if not failing:
                _log.warning("%s does not tell its models: %s", name, error.reason_name)
            failing = True
        await asyncio.sleep(_RETRY_SECONDS if failing else _PERIOD_SECONDS)
