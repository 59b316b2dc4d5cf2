"""Starts the front of Triton: `python -m services.inference`."""

from __future__ import annotations

from services.common.main import run_service
from services.common.server import wait_for_stop_signal
from services.common.telemetry import Telemetry
from services.inference.serve import running_inference
from services.inference.settings import InferenceSettings


async def serve(telemetry: Telemetry) -> None:
    async with running_inference(InferenceSettings.from_environment(), telemetry):
        await wait_for_stop_signal()


if __name__ == "__main__":
    run_service("inference", serve)
