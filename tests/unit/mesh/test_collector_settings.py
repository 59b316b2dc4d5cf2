"""The standard OTEL_EXPORTER_OTLP_* variables."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.common.settings import SettingsError
from services.mesh.otlp.forward import collector_settings

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
TRACES = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
PROTOCOL = "OTEL_EXPORTER_OTLP_PROTOCOL"
HEADERS = "OTEL_EXPORTER_OTLP_HEADERS"


def test_without_an_endpoint_nothing_is_passed_on() -> None:
    assert collector_settings({}) is None
    assert collector_settings({ENDPOINT: ""}) is None


def test_grpc_is_the_default_and_a_bare_address_is_taken() -> None:
    settings = collector_settings({ENDPOINT: "jaeger:4317"})
    assert settings is not None
    assert (settings.endpoint, settings.protocol, settings.headers) == ("http://jaeger:4317", "grpc", ())


def test_http_appends_the_path_to_the_general_endpoint_only() -> None:
    http = {PROTOCOL: "http/protobuf"}
    general = collector_settings({ENDPOINT: "http://jaeger:4318/", **http})
    own = collector_settings({TRACES: "http://jaeger:4318/own", ENDPOINT: "http://other", **http})
    assert general is not None
    assert own is not None
    assert (general.endpoint, own.endpoint) == ("http://jaeger:4318/v1/traces", "http://jaeger:4318/own")


def test_headers_are_read_and_never_shown() -> None:
    settings = collector_settings(
        {
            ENDPOINT: "https://collector",
            HEADERS: "Authorization=Bearer%20canary, x-a = b",
            f"{TRACES[:-9]}_CERTIFICATE": "/c",
        }
    )
    assert settings is not None
    assert settings.headers == (("authorization", "Bearer canary"), ("x-a", "b"))
    assert settings.certificate == Path("/c")
    assert "canary" not in repr(settings)


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({ENDPOINT: "ftp://x"}, ENDPOINT),
        ({ENDPOINT: "x:1", PROTOCOL: "http/json"}, PROTOCOL),
        ({ENDPOINT: "x:1", HEADERS: "no-sign"}, HEADERS),
        ({ENDPOINT: "x:1", "OTEL_EXPORTER_OTLP_TIMEOUT": "soon"}, "OTEL_EXPORTER_OTLP_TIMEOUT"),
    ],
)
def test_a_wrong_value_is_told_by_its_variable(variables: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        collector_settings(variables)
