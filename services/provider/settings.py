"""The provider adapter's settings."""

from __future__ import annotations

import os
from dataclasses import dataclass

from services.common.config import MeshConfig, load_config


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """What the provider adapter is told at its start. Keys are read from where the configuration says."""

    listen: str
    """MYCEL_PROVIDER_LISTEN: `host:port` or `unix:PATH`."""
    config: MeshConfig

    @classmethod
    def from_environment(cls) -> ProviderSettings:
        """Reads and checks the settings.

        Raises:
            ConfigError: mesh.yaml is wrong.
        """
        return cls(os.environ.get("MYCEL_PROVIDER_LISTEN", "127.0.0.1:50053"), load_config().mesh)
