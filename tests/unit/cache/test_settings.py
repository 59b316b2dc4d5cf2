"""The cache's settings from the environment and mesh.yaml."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from services.cache.settings import DEFAULT_THRESHOLD, CacheSettings
from services.common.config import ConfigError
from services.common.settings import SettingsError

MESH = """
providers: {local: {kind: triton}}
models: {llama: {provider: local}}
routes: {auto: {low: [llama]}}
cache: {mode: exact, threshold: 0.95, ttl: 2h, store: {uri: "https://milvus.example.com:19530"}}
"""


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYCEL_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name in ("MYCEL_CONFIG", "MYCEL_CACHE_LISTEN", "MYCEL_STORE_TOKEN", "MYCEL_STORE_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)


def test_what_applies_without_a_configuration(tmp_path: Path):
    settings = CacheSettings.from_environment()
    assert settings.store_uri == str(tmp_path / "cache.db")
    assert settings.threshold == DEFAULT_THRESHOLD
    assert settings.config.mode == "semantic"
    assert settings.store_token is None


def test_what_mesh_yaml_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "mesh.yaml").write_text(MESH)
    (tmp_path / "token").write_text("root:secret\n")
    monkeypatch.setenv("MYCEL_STORE_TOKEN_FILE", str(tmp_path / "token"))
    settings = CacheSettings.from_environment()
    assert settings.store_uri == "https://milvus.example.com:19530"
    assert (settings.threshold, settings.config.mode, settings.config.ttl) == (0.95, "exact", timedelta(hours=2))
    assert settings.store_token is not None
    assert settings.store_token.get_secret_value() == "root:secret"
    assert "secret" not in repr(settings)


def test_wrong_values_name_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "mesh.yaml").write_text(MESH.replace("0.95", "1.5"))
    with pytest.raises(ConfigError, match=r"cache\.threshold"):
        CacheSettings.from_environment()
    (tmp_path / "mesh.yaml").unlink()
    for name, value in (("MYCEL_CACHE_MAX_ENTRIES", "0"), ("MYCEL_CACHE_MAX_ANSWER_BYTES", "3000000000")):
        with monkeypatch.context() as context:
            context.setenv(name, value)
            with pytest.raises(SettingsError, match=name):
                CacheSettings.from_environment()
