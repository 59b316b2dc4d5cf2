"""The inference service's settings."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.common.config import MeshConfig, load_config
from services.common.settings import SettingsError, number

_LONGEST_CALL_SECONDS: Final = 3600


@dataclass(frozen=True, slots=True)
class InferenceSettings:
    """What the inference service is told at its start."""

    listen: str
    """MYCEL_INFERENCE_LISTEN: `host:port` or `unix:PATH`."""
    triton: str
    """MYCEL_TRITON: where Triton's gRPC service is, as `host:port`."""
    config: MeshConfig
    config_folder: Path
    """The folder that relative paths in the configuration start from."""
    call_seconds: float = 600.0
    """MYCEL_INFERENCE_CALL_SECONDS: the longest that a call may take, whatever its own deadline says."""
    watch_seconds: float = 1.0
    """How often Triton is asked whether its models are ready."""

    @classmethod
    def from_environment(cls) -> InferenceSettings:
        """Reads and checks the settings.

        Raises:
            ConfigError: mesh.yaml is wrong.
            SettingsError: a variable is wrong.
        """
        loaded = load_config()
        return cls(
            listen=os.environ.get("MYCEL_INFERENCE_LISTEN", "127.0.0.1:50054"),
            triton=_address("MYCEL_TRITON", "127.0.0.1:8001"),
            config=loaded.mesh,
            config_folder=loaded.path.parent,
            call_seconds=number("MYCEL_INFERENCE_CALL_SECONDS", 600.0, least=1, most=_LONGEST_CALL_SECONDS),
        )


def _address(name: str, default: str) -> str:
    text = os.environ.get(name, default)
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit():
        raise SettingsError(f"{name}: {text!r} is not host:port")
    return text
