"""Starts the provider adapter: `python -m services.provider`."""

from __future__ import annotations

from services.common.main import run_service
from services.common.server import wait_for_stop_signal
from services.common.telemetry import Telemetry
from services.provider.serve import running_provider
from services.provider.settings import ProviderSettings


async def serve(telemetry: Telemetry) -> None:
    async with running_provider(ProviderSettings.from_environment(), telemetry):
        await wait_for_stop_signal()


if __name__ == "__main__":
    run_service("provider", serve)
