"""The Ollama kind against a real Ollama server, where one is installed: `ollama` on the path, or in MYCEL_OLLAMA.

The server runs on a port and a folder of its own, with a tiny model whose answer is known in advance.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx2 as httpx
import pytest
from mycel.chat.v1 import types_pb2 as chat
from mycel.completion.v1 import completion_service_pb2 as completion
from mycel.completion.v1.completion_service_pb2_grpc import CompletionServiceStub

from services.common.channels import open_channel
from services.common.config import load_config
from services.common.errors import MycelError
from services.common.status import from_rpc_error
from services.common.telemetry import Telemetry
from services.provider.serve import running_provider
from services.provider.settings import ProviderSettings
from tests.fakes.tiny_gguf import build_tiny_gguf
from tests.integration.provider.conftest import finish, question, texts

OLLAMA = os.environ.get("MYCEL_OLLAMA") or shutil.which("ollama")
TEMPLATE = (
    "{{- range $i, $_ := .Messages }}{{- $last := eq (len (slice $.Messages $i)) 1 }}"
    "<|start_header_id|>{{ .Role }}<|end_header_id|>\n\n{{ .Content }}{{ if not $last }}<|eot_id|>{{ end }}"
    '{{- if and $last (ne .Role "assistant") }}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n{{ end }}'
    "{{- end }}"
)

# Not even in CI: no registry has the server in a form that a test could install.
pytestmark = pytest.mark.skipif(OLLAMA is None, reason="no Ollama server is installed here")


@dataclass(frozen=True)
class Server:
    """A running server and what its model says."""

    url: str
    answer: str


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("ollama")
    model = build_tiny_gguf(folder / "tiny.gguf", context_tokens=512)
    (folder / "Modelfile").write_text(f'FROM {model.path}\nTEMPLATE """{TEMPLATE}"""\n')
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "OLLAMA_HOST": address}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([str(OLLAMA), "serve"], env=environment, stdout=log, stderr=log)
    try:
        transport = httpx.HTTPTransport(retries=30)
        with httpx.Client(transport=transport, trust_env=False) as client:
            assert client.get(f"http://{address}/api/version").status_code == 200
        create = [str(OLLAMA), "create", "tiny", "-f", str(folder / "Modelfile")]
        subprocess.run(create, env=environment, check=True, capture_output=True, timeout=60)
        yield Server(f"http://{address}", model.answer)
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture
async def stub(server: Server, tmp_path: Path) -> AsyncIterator[CompletionServiceStub]:
    path = tmp_path / "mesh.yaml"
    path.write_text(
        f"providers: {{local: {{kind: ollama, base_url: '{server.url}'}}}}\n"
        "models: {tiny: {provider: local, context: 256}, none: {provider: local}}\n"
        "routes: {auto: {low: [tiny]}}\n"
    )
    settings = ProviderSettings("127.0.0.1:0", load_config(path).mesh)
    async with (
        running_provider(settings, Telemetry.disabled()) as running,
        open_channel(running.address, Telemetry.disabled()) as channel,
    ):
        yield CompletionServiceStub(channel)


async def _ask(
    stub: CompletionServiceStub, value: chat.ChatInput, model: str = "tiny"
) -> list[completion.StreamCompletionResponse]:
    request = completion.StreamCompletionRequest(model=model, input=value)
    return [event async for event in stub.StreamCompletion(request, timeout=60)]


async def _fail(stub: CompletionServiceStub, value: chat.ChatInput, model: str = "tiny") -> MycelError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await _ask(stub, value, model)
    return from_rpc_error(caught.value, "provider")


async def test_it_answers(stub: CompletionServiceStub, server: Server) -> None:
    events = await _ask(stub, question())
    assert texts(events) == server.answer
    assert finish(events) == "STOP"
    usage = events[-1].completed.usage
    assert usage.prompt_tokens > 0
    assert usage.completion_tokens > 0
    assert len([event for event in events if event.delta.text]) > 3


async def test_an_answer_is_cut_at_its_limit(stub: CompletionServiceStub, server: Server) -> None:
    value = question()
    value.parameters.max_tokens = 2
    events = await _ask(stub, value)
    assert finish(events) == "LENGTH"
    assert server.answer.startswith(texts(events))
    assert texts(events) != server.answer


async def test_log_probabilities_are_told(stub: CompletionServiceStub) -> None:
    value = question()
    value.parameters.logprobs = True
    value.parameters.top_logprobs = 2
    records = [record for event in await _ask(stub, value) for record in event.delta.logprobs]
    assert records[0].token == "Hyphae"
    assert len(records[0].top) == 2


async def test_it_goes_on_with_a_prefix(stub: CompletionServiceStub, server: Server) -> None:
    value = question()
    value.messages.add(role=chat.ROLE_ASSISTANT).content.add(text="Hyphae carry")
    assert texts(await _ask(stub, value)) == server.answer.removeprefix("Hyphae carry")


async def test_what_it_cannot_do_is_refused(stub: CompletionServiceStub) -> None:
    tools = question()
    tools.tools.add(name="f")
    error = await _fail(stub, tools)
    assert (error.reason_name, error.field) == ("UNSUPPORTED_FEATURE", "tools")
    picture = question()
    picture.messages[0].content.add(image=chat.Image(data=b"x", media_type="image/png"))
    error = await _fail(stub, picture)
    assert (error.reason_name, error.field) == ("UNSUPPORTED_FEATURE", "messages[0].content[1].image")
    assert (await _fail(stub, question("word " * 2000))).reason_name == "CONTEXT_TOO_LONG"
    assert (await _fail(stub, question(), "none")).reason_name == "BACKEND_MODEL_MISSING"


async def test_a_caller_may_go_away(stub: CompletionServiceStub, server: Server) -> None:
    call = stub.StreamCompletion(completion.StreamCompletionRequest(model="tiny", input=question()), timeout=60)
    async for event in call:
        if event.delta.text:
            break
    call.cancel()
    assert texts(await asyncio.wait_for(_ask(stub, question()), 60)) == server.answer
