"""Asks a service for its health: `python -m services.common.healthcheck host:port`, for a container's health check."""

from __future__ import annotations

import sys
from typing import Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

_SECONDS: Final = 2.0


def main(arguments: list[str]) -> int:
    """Returns 0 when the service is serving, 1 when it is not or does not answer, 2 for wrong arguments."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m services.common.healthcheck TARGET\n")
        return 2
    with grpc.insecure_channel(arguments[0]) as channel:
        stub = health_pb2_grpc.HealthStub(channel)  # type: ignore[no-untyped-call]
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=_SECONDS)
        except grpc.RpcError as error:
            sys.stderr.write(f"{arguments[0]}: {error}\n")
            return 1
    return 0 if answer.status == health_pb2.HealthCheckResponse.SERVING else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
