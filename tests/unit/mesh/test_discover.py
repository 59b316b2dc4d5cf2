"""A local Ollama's models join the default tiers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from services.common.config import load_config
from services.common.config.loader import DEFAULT
from services.mesh.discover import ollama_models, with_local_ollama


@contextmanager
def _ollama(body: bytes, status: int = 200) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/api/tags" else 404)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def _tags(*names: str) -> bytes:
    return json.dumps({"models": [{"name": name} for name in names]}).encode()


def test_its_models_join_the_tiers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with _ollama(_tags("llama3.2:3b", "qwen3:8b")) as host:
        monkeypatch.setenv("OLLAMA_HOST", host)
        joined = with_local_ollama(load_config(DEFAULT), tmp_path).mesh
    before = load_config(DEFAULT).mesh.routes["auto"]
    route = joined.routes["auto"]
    assert route.low[:2] == ("llama3.2:3b", "qwen3:8b")
    assert route.high == (*before.high[:-1], "llama3.2:3b", "qwen3:8b", "llama-local")
    assert route.low[-1] == "llama-local"
    assert joined.models["qwen3:8b"].provider == "ollama"


def test_a_configuration_of_ones_own_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "mesh.yaml"
    own.write_text("providers: {o: {kind: openai}}\nmodels: {m: {provider: o}}\nroutes: {auto: {low: [m]}}\n")
    with _ollama(_tags("llama3.2:3b")) as host:
        monkeypatch.setenv("OLLAMA_HOST", host)
        loaded = load_config(own)
        assert with_local_ollama(loaded, tmp_path) is loaded


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"<html>", 200), (b"{}", 200), (b'{"models": 3}', 200), (b'{"models": [{}]}', 200), (_tags("a"), 500)],
)
def test_what_is_no_ollama_has_no_models(body: bytes, status: int) -> None:
    with _ollama(body, status) as host:
        assert ollama_models(f"http://{host}/") == []


def test_where_nobody_answers_there_are_no_models() -> None:
    assert ollama_models("127.0.0.1:1") == []


def test_names_that_no_configuration_takes_are_left_out() -> None:
    with _ollama(_tags("good:1b", "bad name", "../x")) as host:
        assert ollama_models(host) == ["good:1b"]
