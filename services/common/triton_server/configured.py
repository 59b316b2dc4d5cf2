"""The models of mesh.yaml that Triton serves."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from services.common.config import MeshConfig
from services.common.config.schema import gguf_path
from services.common.triton_server.repository import LlamaModel
from services.common.triton_server.runtime import TritonSetupError

_GGUF_MAGIC: Final = b"GGUF"
DEFAULT_CONTEXT_TOKENS: Final = 4096
"""Tokens of context for a local model whose configuration does not say."""


def configured_models(mesh: MeshConfig, config_path: Path) -> tuple[LlamaModel, ...]:
    """Gives the local models, their files checked.

    Args:
        mesh: the configuration.
        config_path: the file that it comes from; relative paths start from its folder.

    Raises:
        TritonSetupError: a model names no file, or one that is not there or not a GGUF.
    """
    models = []
    for name, model in mesh.local_models().items():
        field = f"{config_path}: models.{name}.gguf"
        path = gguf_path(model, config_path.parent)
        if path is None:
            raise TritonSetupError(f"{field}: is needed, since MYCEL_TRITON names no other server")
        _check_gguf(field, path)
        context = model.context or DEFAULT_CONTEXT_TOKENS
        # The inference service queues; here a new call only meets cancelled ones that are about to leave their slots.
        queue = max(model.queue, model.slots)
        models.append(LlamaModel(model.model or name, path, context, slots=model.slots, queue=queue))
    return tuple(models)


def _check_gguf(field: str, path: Path) -> None:
    try:
        with path.open("rb") as file:
            if file.read(len(_GGUF_MAGIC)) != _GGUF_MAGIC:
                raise TritonSetupError(f"{field}: {path} is not a GGUF file")
    except OSError as error:
        raise TritonSetupError(f"{field}: the model file {path} cannot be read: {error.strerror}") from error
