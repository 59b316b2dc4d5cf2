"""Starts the router: `python -m services.router`."""

from __future__ import annotations

from services.common.main import run_service
from services.common.server import wait_for_stop_signal
from services.common.telemetry import Telemetry
from services.router.serve import running_router
from services.router.settings import RouterSettings


async def serve(telemetry: Telemetry) -> None:
    async with running_router(RouterSettings.from_environment(), telemetry):
        await wait_for_stop_signal()


if __name__ == "__main__":
    run_service("router", serve)
