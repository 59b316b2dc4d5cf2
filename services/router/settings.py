"""The router's settings."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass

from services.common.config import MeshConfig, load_config
from services.common.settings import SettingsError, number


@dataclass(frozen=True, slots=True)
class RouterSettings:
    """What the router is told at its start."""

    listen: str
    """MYCEL_ROUTER_LISTEN: `host:port` or `unix:PATH`."""
    mesh: str
    """MYCEL_MESH: Envoy's mesh listener, behind which the other services are."""
    config: MeshConfig
    development_key: bool
    """Whether `mycel-dev` is accepted: on a loopback ingress (MYCEL_INGRESS) without tenants."""
    cache_seconds: float
    """MYCEL_CACHE_TIMEOUT: how long a cache lookup may take before it counts as a miss, in seconds."""
    call_seconds: float
    """MYCEL_CALL_TIMEOUT: the time of a call that sets no deadline, and the most of any, in seconds."""

    @classmethod
    def from_environment(cls) -> RouterSettings:
        """Reads and checks the settings.

        Raises:
            ConfigError: mesh.yaml is wrong.
            SettingsError: a variable is wrong, or keys are needed and none is configured.
        """
        config = load_config().mesh
        ingress = os.environ.get("MYCEL_INGRESS", "127.0.0.1:8080")
        loopback = _is_loopback(ingress)
        if not loopback and not config.tenants:
            raise SettingsError(
                f"MYCEL_INGRESS: {ingress} is not loopback, so mesh.yaml must configure tenants with keys"
            )
        return cls(
            listen=os.environ.get("MYCEL_ROUTER_LISTEN", "127.0.0.1:50051"),
            mesh=os.environ.get("MYCEL_MESH", "127.0.0.1:8081"),
            config=config,
            development_key=loopback,
            cache_seconds=number("MYCEL_CACHE_TIMEOUT", 0.5, least=0.001, most=60),
            call_seconds=number("MYCEL_CALL_TIMEOUT", 600, least=1, most=86_400),
        )


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
