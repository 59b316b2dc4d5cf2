"""mesh.yaml: what is wrong in it is told with line, field and reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.common.config import ConfigError, load_config
from services.common.config.loader import DEFAULT

_GOOD = """\
providers:
  openai: {kind: openai}
  local: {kind: triton}
models:
  small: {provider: local, gguf: small.gguf}
  big: {provider: openai, price: {input: 1, output: 2}}
routes:
  auto: {low: [small], high: [big]}
cache: {ttl: 90s}
"""


def _write(folder: Path, text: str) -> Path:
    path = folder / "mesh.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_default_file_is_sound() -> None:
    mesh = load_config(DEFAULT).mesh
    assert set(mesh.local_models()) == {"llama-local"}
    assert mesh.routes["auto"].models()


def test_a_good_file_is_read(tmp_path: Path) -> None:
    mesh = load_config(_write(tmp_path, _GOOD)).mesh
    assert mesh.cache.ttl.total_seconds() == 90
    assert mesh.routes["auto"].models() == ("small", "big")


@pytest.mark.parametrize(
    ("old", "new", "line", "told"),
    [
        ("kind: openai", "kind: opneai", 2, "providers.openai.kind"),
        ("provider: openai", "provider: nobody", 6, "models.big.provider: no provider is called 'nobody'"),
        ("low: [small]", "low: [tiny]", 8, "routes.auto.low[0]: no model is called 'tiny'"),
        ("input: 1", "input: -1", 6, "models.big.price.input"),
        ("input: 1", "input: .nan", 6, "models.big.price.input"),
        ("ttl: 90s", "ttl: soon", 9, "cache.ttl: give a duration"),
        ("ttl: 90s", "tttl: 90s", 9, "cache.tttl: no such field"),
        ("  auto:", "  automatic:", 7, "routes: the route `auto` is missing"),
        ("gguf: small.gguf", "gguf: [", 5, "not YAML"),
        ("cache: {ttl", "models: {ttl", 9, "models: stands here twice"),
    ],
)
def test_a_mistake_is_told_with_its_place(tmp_path: Path, old: str, new: str, line: int, told: str) -> None:
    path = _write(tmp_path, _GOOD.replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    message = str(caught.value)
    assert "\n" not in message
    assert told in message
    assert message.startswith(f"{path}:{line}:")


@pytest.mark.parametrize("text", ["", "[]", "just text", "\t", "a: &x [*x]"])
def test_what_is_no_configuration_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError):
        load_config(_write(tmp_path, text))


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_config(tmp_path / "none.yaml")


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mesh.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError):
        load_config(path)
