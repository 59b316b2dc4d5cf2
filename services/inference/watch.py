"""Keeps in view, in the background, which models Triton can serve now."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import Final

from services.common.errors import MycelError
from services.inference.chat_template import ChatTemplate
from services.inference.model_file import ModelFileError
from services.inference.models import LocalModel, LocalModels, load_template
from services.inference.triton_state import TritonState

_log = logging.getLogger("mycel.inference")

_EAGER_SECONDS: Final = 0.2
"""How often Triton is asked while it serves nothing."""

_READ_AGAIN_SECONDS: Final = 10.0
"""How often a model's file is read that was of no use: it takes seconds for a large one."""


class ModelWatch:
    """Updates every model's state, and tells when the service as a whole can serve or no longer can."""

    def __init__(
        self,
        models: LocalModels,
        triton: TritonState,
        executor: Executor,
        config_folder: Path,
        *,
        every_seconds: float,
        on_change: Callable[[bool], Awaitable[None]],
    ) -> None:
        """Makes a watch.

        Args:
            models: the models to update.
            triton: tells how Triton and its models are.
            executor: where files are read.
            config_folder: the folder that relative paths start from.
            every_seconds: how often Triton is asked while all is well.
            on_change: told whether the service can serve, each time that this changes.
        """
        self._models = models
        self._triton = triton
        self._executor = executor
        self._config_folder = config_folder
        self._every_seconds = every_seconds
        self._on_change = on_change
        self._serving = False
        self._read_again_at: dict[str, float] = {}

    async def run(self) -> None:
        """Watches until cancelled."""
        while True:
            try:
                await self._look()
            except Exception:  # noqa: BLE001 - or health would stay as it is for good
                _log.exception("looking at the models failed")
            await asyncio.sleep(self._every_seconds if self._serving else _EAGER_SECONDS)

    async def _look(self) -> None:
        models = self._models.all()
        for model in models:
            await self._look_at(model)
        # Of several models, those that are ready are served; without any there is nothing to wait for.
        await self._report(serving=not models or any(not model.unavailable_reason for model in models))

    async def _look_at(self, model: LocalModel) -> None:
        before = model.unavailable_reason
        try:
            if model.template is None:
                model.template = await self._template(model)
            await self._triton.check_ready(model.triton_name)
            if before:  # it is back, and may be another one
                model.inputs = await self._triton.input_names(model.triton_name)
            model.unavailable_reason = ""
        except ModelFileError as error:
            model.unavailable(str(error))
        except MycelError as error:
            model.unavailable(error.message, error.reason)
        if model.unavailable_reason != before:
            _log.info("%s: %s", model.name, model.unavailable_reason or "ready")

    async def _template(self, model: LocalModel) -> ChatTemplate:
        now = time.monotonic()
        if now < self._read_again_at.get(model.name, now):
            raise ModelFileError(model.unavailable_reason)
        self._read_again_at[model.name] = now + _READ_AGAIN_SECONDS
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, load_template, model, self._config_folder)

    async def _report(self, *, serving: bool) -> None:
        if serving != self._serving:
            self._serving = serving
            await self._on_change(serving)
