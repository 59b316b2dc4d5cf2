"""The providers' part of mesh.yaml."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.common.config import ConfigError, ProviderConfig, load_config

REST = "models: {m: {provider: p}}\nroutes: {auto: {low: [m]}}\n"


@pytest.mark.parametrize(
    ("provider", "told"),
    [
        ("kind: gemini", "providers.p.kind"),
        ("kind: openai, endpoint: 'http://x'", "endpoint belongs to the kind azure_openai, this is openai"),
        ("kind: anthropic, api_version: '1'", "api_version belongs to the kind azure_openai"),
        ("kind: azure_openai, base_url: 'http://x'", "an azure_openai provider has an endpoint, not a base_url"),
        ("kind: openai, base_url: 'ftp://x'", "providers.p.base_url"),
        ("kind: openai, headers: {'a b': c}", "providers.p.headers"),
        ('kind: openai, headers: {a: "x\\ny"}', "providers.p.headers"),
        ("kind: openai, timeout: soon", "providers.p.timeout: give a duration"),
        ("kind: openai, api_key: sk-1", "providers.p.api_key: no such field"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, provider: str, told: str) -> None:
    path = tmp_path / "mesh.yaml"
    path.write_text(f"providers: {{p: {{{provider}}}}}\n{REST}")
    with pytest.raises(ConfigError, match=r"mesh.yaml:1: ") as caught:
        load_config(path)
    assert told in str(caught.value)


def test_keys_and_their_variables() -> None:
    assert ProviderConfig(kind="anthropic").key_variable == "ANTHROPIC_API_KEY"
    assert ProviderConfig(kind="openai", api_key_env="MINE").key_variable == "MINE"
    assert not ProviderConfig(kind="openai").key_is_optional
    assert ProviderConfig(kind="ollama").key_is_optional
    assert not ProviderConfig(kind="ollama", api_key_env="MINE").key_is_optional
    keyless = ProviderConfig(kind="openai", api_key_env=None)
    assert keyless.key_variable is None
    assert keyless.key_is_optional


def test_the_variables_that_a_provider_is_set_up_from() -> None:
    provider = ProviderConfig(kind="azure_openai", headers={"X-A": "$TEAM", "X-B": "plain"})
    assert provider.variables() == {"AZURE_OPENAI_API_KEY", "AZURE_OPENAI_ENDPOINT", "OPENAI_API_VERSION", "TEAM"}
    assert not ProviderConfig(kind="triton").variables()
