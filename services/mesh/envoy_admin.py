"""Envoy's administration interface on its Unix socket: is it ready, where does it listen, which services are well."""

from __future__ import annotations

import http
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.mesh.envoy import EnvoyError
from services.mesh.unix_http import UnixHttpError, ask


@dataclass(frozen=True, slots=True)
class EnvoyAdmin:
    """Asks one running Envoy. Every call blocks, for `timeout` seconds at most: use it in a thread."""

    path: Path
    """The interface's Unix socket."""
    timeout: float = 2.0
    """Seconds for one question."""

    def ready(self) -> bool:
        """Tells whether Envoy takes calls; False as well when it is not (yet) there."""
        try:
            status, _ = self._get("/ready")
        except EnvoyError:
            return False
        return status == http.HTTPStatus.OK

    def listener_port(self, name: str) -> int:
        """Gives the TCP port that a listener got.

        Raises:
            EnvoyError: Envoy does not answer, or has no such listener on TCP.
        """
        for listener in self._json("/listeners?format=json").get("listener_statuses", []):
            address = listener.get("local_address", {}).get("socket_address")
            if listener.get("name") == name and address:
                return int(address["port_value"])
        raise EnvoyError(f"Envoy has no listener {name!r} on a TCP port")

    def healthy_services(self) -> dict[str, bool]:
        """Tells for each cluster whether at least one of its replicas takes calls.

        Raises:
            EnvoyError: Envoy does not answer.
        """
        clusters = self._json("/clusters?format=json").get("cluster_statuses", [])
        return {
            cluster["name"]: any(_takes_calls(host) for host in cluster.get("host_statuses", []))
            for cluster in clusters
        }

    def close_ingress(self) -> bool:
        """Takes no new connections at the ingress; those that are open stay. Tells whether Envoy did."""
        try:
            status, _ = self._get("/drain_listeners?inboundonly", "POST")
        except EnvoyError:
            return False
        return status == http.HTTPStatus.OK

    def calls_in_progress(self) -> int:
        """Counts the calls that entered at the ingress and are not done; 0 as well when Envoy does not answer."""
        try:
            _, body = self._get("/stats?filter=^http.ingress.downstream_rq_active$&format=json")
            return sum(int(stat["value"]) for stat in json.loads(body)["stats"])
        except (EnvoyError, ValueError, KeyError):
            return 0

    def _json(self, target: str) -> dict[str, Any]:
        status, body = self._get(target)
        if status != http.HTTPStatus.OK:
            raise EnvoyError(f"Envoy's administration interface answered {status} to {target}")
        answer: dict[str, Any] = json.loads(body)
        return answer

    def _get(self, target: str, method: str = "GET") -> tuple[int, bytes]:
        try:
            return ask(self.path, target, method=method, timeout=self.timeout)
        except UnixHttpError as error:
            raise EnvoyError(f"Envoy's administration interface does not answer at {error}") from error


def _takes_calls(host: dict[str, Any]) -> bool:
    health: dict[str, Any] = host.get("health_status", {})
    failed = any(value is True for key, value in health.items() if key.startswith("failed_"))
    return not failed and health.get("eds_health_status", "HEALTHY") == "HEALTHY"
