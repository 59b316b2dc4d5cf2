"""Starts the cache: `python -m services.cache`."""

from __future__ import annotations

from services.cache.serve import running_cache
from services.cache.settings import CacheSettings
from services.common.main import run_service
from services.common.server import wait_for_stop_signal
from services.common.telemetry import Telemetry


async def serve(telemetry: Telemetry) -> None:
    async with running_cache(CacheSettings.from_environment(), telemetry):
        await wait_for_stop_signal()


if __name__ == "__main__":
    run_service("cache", serve)
