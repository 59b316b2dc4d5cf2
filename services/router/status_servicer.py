"""StatusService: what the router sees of its providers."""

from __future__ import annotations

from datetime import timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from mycel.status.v1 import status_service_pb2 as status
from mycel.status.v1.status_service_pb2_grpc import StatusServiceServicer

from services.router.calls import Context
from services.router.reliability.board import Board, ProviderRecord
from services.router.reliability.breaker import State

_STATES = {
    State.CLOSED: status.BREAKER_STATE_CLOSED,
    State.OPEN: status.BREAKER_STATE_OPEN,
    State.HALF_OPEN: status.BREAKER_STATE_HALF_OPEN,
}


class StatusServicer(StatusServiceServicer):
    """Serves StatusService from the board."""

    def __init__(self, board: Board) -> None:
        self._board = board

    async def ListProviderHealth(
        self, request: status.ListProviderHealthRequest, context: Context
    ) -> status.ListProviderHealthResponse:
        providers = [_health(name, record) for name, record in sorted(self._board.providers.items())]
        return status.ListProviderHealthResponse(providers=providers)


def _health(name: str, record: ProviderRecord) -> status.ProviderHealth:
    health = status.ProviderHealth(
        provider=name,
        breaker=_STATES[record.breaker.state],
        last_error=record.last_error,
        failures=record.failures,
        until_probe=_duration(record.breaker.seconds_to_probe),
    )
    if record.last_error:
        health.last_error_at.CopyFrom(Timestamp(seconds=int(record.last_error_at)))
    median = record.first_token.quantile(0.5)
    if median is not None:
        health.first_token_p50.CopyFrom(_duration(median))
    return health


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromTimedelta(timedelta(seconds=seconds))
    return duration
