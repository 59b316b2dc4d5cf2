"""Passes traces on to the collector that the standard OTEL_* variables name.

A collector that is slow or gone costs no call anything: the queue is bounded, what does not fit is dropped and counted.
"""

from __future__ import annotations

import asyncio
import logging
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import unquote, urlsplit

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from services.common.settings import SettingsError

_LOG: Final = logging.getLogger(__name__)
_QUEUE: Final = 256
_EXPORT_METHOD: Final = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_LAST_CHANCE_SECONDS: Final = 1.0
"""How long leaving waits for what is still in the queue."""


@dataclass(frozen=True, slots=True)
class CollectorSettings:
    """Where traces are passed on to."""

    endpoint: str
    """A URL; for http/protobuf the whole one, with the path."""
    protocol: str
    """`grpc` or `http/protobuf`."""
    headers: tuple[tuple[str, str], ...]
    certificate: Path | None
    """Trusted roots as PEM; None for the system's."""
    timeout: float
    """Seconds that one export may take."""

    def __repr__(self) -> str:
        """Leaves the headers out: they carry keys."""
        return f"CollectorSettings(endpoint={self.endpoint!r}, protocol={self.protocol!r})"


def collector_settings(environment: Mapping[str, str]) -> CollectorSettings | None:
    """Reads OTEL_EXPORTER_OTLP_* (the TRACES form first); None when no endpoint is named.

    Raises:
        SettingsError: a value is wrong; the message names the variable.
    """

    def read(name: str) -> str:
        return environment.get(f"OTEL_EXPORTER_OTLP_TRACES_{name}") or environment.get(f"OTEL_EXPORTER_OTLP_{name}", "")

    endpoint = read("ENDPOINT")
    if not endpoint:
        return None
    protocol = read("PROTOCOL") or "grpc"
    if protocol not in ("grpc", "http/protobuf"):
        raise SettingsError(f"OTEL_EXPORTER_OTLP_PROTOCOL: {protocol!r} is neither grpc nor http/protobuf")
    if "://" not in endpoint:
        endpoint = f"http://{endpoint}"
    if urlsplit(endpoint).scheme not in ("http", "https"):
        raise SettingsError(f"OTEL_EXPORTER_OTLP_ENDPOINT: {endpoint!r} is neither http nor https")
    if protocol == "http/protobuf" and not environment.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        endpoint = f"{endpoint.rstrip('/')}/v1/traces"  # the general endpoint is a base, the traces one is complete
    return CollectorSettings(
        endpoint=endpoint,
        protocol=protocol,
        headers=_headers(read("HEADERS")),
        certificate=Path(read("CERTIFICATE")) if read("CERTIFICATE") else None,
        timeout=_timeout(read("TIMEOUT")),
    )


def _headers(text: str) -> tuple[tuple[str, str], ...]:
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    if any(not sign for _, sign, _ in pairs):
        raise SettingsError("OTEL_EXPORTER_OTLP_HEADERS: give name=value, separated by commas")
    return tuple((name.strip().lower(), unquote(value.strip())) for name, _, value in pairs)


def _timeout(text: str) -> float:
    """Seconds, as OpenTelemetry's Python SDK reads it."""
    try:
        seconds = float(text or 10)
    except ValueError:
        raise SettingsError(f"OTEL_EXPORTER_OTLP_TIMEOUT: {text!r} is not a number") from None
    return min(max(seconds, 0.1), 60.0)


class _Exporter(Protocol):
    async def __call__(self, request: ExportTraceServiceRequest) -> None:
        """Sends one request. Raises OSError or grpc.RpcError when it was not taken."""


class Forwarder:
    """A bounded queue in front of a collector."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[ExportTraceServiceRequest] = asyncio.Queue(_QUEUE)
        self._reachable = True
        self.dropped = 0
        """Requests that did not fit into the queue or were not taken."""

    def put(self, request: ExportTraceServiceRequest) -> None:
        """Queues a request, or drops it when the queue is full."""
        try:
            self._queue.put_nowait(request)
        except asyncio.QueueFull:
            self.dropped += 1

    async def drain(self) -> None:
        """Returns when everything queued has been sent or dropped."""
        await self._queue.join()

    async def run(self, export: _Exporter) -> None:
        """Sends what is queued, one request after the other, until cancelled."""
        while True:
            request = await self._queue.get()
            try:
                await export(request)
                self._note(reachable=True)
            except (OSError, grpc.RpcError) as error:
                self.dropped += 1
                self._note(reachable=False, reason=error.code().name if isinstance(error, grpc.aio.AioRpcError) else "")
            finally:
                self._queue.task_done()

    def _note(self, *, reachable: bool, reason: str = "") -> None:
        """Says once that the collector went away, and once that it is back."""
        if reachable != self._reachable:
            text = "the trace collector answers again" if reachable else "the trace collector does not answer"
            _LOG.warning(text, extra={"reason": reason, "dropped": self.dropped})
        self._reachable = reachable


@asynccontextmanager
async def running_forwarder(settings: CollectorSettings) -> AsyncIterator[Forwarder]:
    """Passes on what is put in, until the block is left; then tries for a second to send the rest."""
    forwarder = Forwarder()
    async with _exporter(settings) as export:
        task = asyncio.create_task(forwarder.run(export))
        try:
            yield forwarder
        finally:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LAST_CHANCE_SECONDS):
                    await forwarder.drain()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def _exporter(settings: CollectorSettings) -> AsyncIterator[_Exporter]:
    if settings.protocol == "http/protobuf":
        yield _http_exporter(settings)
        return
    parts = urlsplit(settings.endpoint)
    if parts.scheme == "https":
        roots = settings.certificate.read_bytes() if settings.certificate else None
        channel = grpc.aio.secure_channel(parts.netloc, grpc.ssl_channel_credentials(roots))
    else:
        channel = grpc.aio.insecure_channel(parts.netloc)
    async with channel:
        call = channel.unary_unary(
            _EXPORT_METHOD,
            request_serializer=ExportTraceServiceRequest.SerializeToString,
            response_deserializer=ExportTraceServiceResponse.FromString,
        )

        async def export(request: ExportTraceServiceRequest) -> None:
            await call(request, timeout=settings.timeout, metadata=settings.headers)

        yield export


def _http_exporter(settings: CollectorSettings) -> _Exporter:
    headers = {**dict(settings.headers), "content-type": "application/x-protobuf"}
    context = None
    if settings.endpoint.startswith("https:"):
        import ssl  # noqa: PLC0415 - only here, and costly

        context = ssl.create_default_context(cafile=str(settings.certificate) if settings.certificate else None)

    def post(body: bytes) -> None:
        request = urllib.request.Request(settings.endpoint, body, headers, method="POST")  # noqa: S310 - checked above
        with urllib.request.urlopen(request, timeout=settings.timeout, context=context) as answer:  # noqa: S310
            answer.read()

    async def export(request: ExportTraceServiceRequest) -> None:
        await asyncio.to_thread(post, request.SerializeToString())

    return export
