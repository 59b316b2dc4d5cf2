"""The inference service's settings."""

from __future__ import annotations

import pytest

from services.common.settings import SettingsError
from services.inference.settings import InferenceSettings


def test_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MYCEL_CONFIG", "MYCEL_TRITON", "MYCEL_INFERENCE_LISTEN", "MYCEL_INFERENCE_CALL_SECONDS"):
        monkeypatch.delenv(name, raising=False)
    settings = InferenceSettings.from_environment()
    assert (settings.triton, settings.call_seconds) == ("127.0.0.1:8001", 600)
    assert list(settings.config.local_models()) == ["llama-local"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MYCEL_TRITON", "localhost"),
        ("MYCEL_TRITON", ":8001"),
        ("MYCEL_TRITON", "localhost:http"),
        ("MYCEL_INFERENCE_CALL_SECONDS", "0"),
        ("MYCEL_INFERENCE_CALL_SECONDS", "soon"),
    ],
)
def test_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=name):
        InferenceSettings.from_environment()
