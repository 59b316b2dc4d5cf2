"""mesh.yaml: what it may hold, how it is read, and what applies without one."""

from services.common.config.loader import ConfigError, LoadedConfig, load_config
from services.common.config.providers import CapabilitiesConfig, Kind, ProviderConfig
from services.common.config.reliability import BreakerConfig, HedgeConfig, ReliabilityConfig, RetryConfig
from services.common.config.schema import (
    BUILTIN_HANDBOOK,
    CacheConfig,
    MeshConfig,
    ModelConfig,
    Price,
    RouteConfig,
    TenantConfig,
)

__all__ = [
    "BUILTIN_HANDBOOK",
    "BreakerConfig",
    "CacheConfig",
    "CapabilitiesConfig",
    "ConfigError",
    "HedgeConfig",
    "Kind",
    "LoadedConfig",
    "MeshConfig",
    "ModelConfig",
    "Price",
    "ProviderConfig",
    "ReliabilityConfig",
    "RetryConfig",
    "RouteConfig",
    "TenantConfig",
    "load_config",
]
