"""Keeps in view, in the background, which models Triton can serve now."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import Final

from services.common.errors import MycelError
from services.inference.model_file import ModelFileError
from services.inference.models import LocalModel, LocalModels, load_template
from services.inference.triton_client import TritonClient

_log = logging.getLogger("mycel.inference")

_EAGER_SECONDS: Final = 0.2
"""How often Triton is asked while a model is not ready."""


class ModelWatch:
    """Updates every model's state, and tells when the service as a whole can serve or no longer can."""

    def __init__(
        self,
        models: LocalModels,
        client: TritonClient,
        executor: Executor,
        config_folder: Path,
        *,
        every_seconds: float,
        on_change: Callable[[bool], Awaitable[None]],
    ) -> None:
        """Makes a watch.

        Args:
            models: the models to update.
            client: the connection to Triton.
            executor: where files are read.
            config_folder: the folder that relative paths start from.
            every_seconds: how often Triton is asked while all is well.
            on_change: told whether the service can serve, each time that this changes.
        """
        self._models = models
        self._client = client
        self._executor = executor
        self._config_folder = config_folder
        self._every_seconds = every_seconds
        self._on_change = on_change
        self._serving = False

    async def run(self) -> None:
        """Watches until cancelled."""
        while True:
            for model in self._models.all():
                await self._look_at(model)
            unready = [model for model in self._models.all() if model.unavailable_reason]
            # With several models, the ones that are there are served; without any there is nothing to wait for.
            await self._report(serving=not unready or len(unready) < len(self._models.all()))
            await asyncio.sleep(_EAGER_SECONDS if unready else self._every_seconds)

    async def _look_at(self, model: LocalModel) -> None:
        before = model.unavailable_reason
        try:
            if model.template is None:
                loop = asyncio.get_running_loop()
                model.template = await loop.run_in_executor(self._executor, load_template, model, self._config_folder)
            model.unavailable_reason = await self._client.unready_reason(model.triton_name)
        except (ModelFileError, MycelError) as error:
            model.unavailable_reason = str(error)
        if model.unavailable_reason != before:
            _log.info("%s: %s", model.name, model.unavailable_reason or "ready")

    async def _report(self, *, serving: bool) -> None:
        if serving != self._serving:
            self._serving = serving
            await self._on_change(serving)
