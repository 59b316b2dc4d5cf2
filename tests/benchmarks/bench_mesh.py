"""Measures the whole mesh on this machine, through Envoy, with one client: `make bench`.

Starts a mesh of its own on a free port and temporary state, and prints a table: start, exact hit, semantic hit, time to
the first token of a handbook answer, resident memory, stop. `--write FILE` writes it as Markdown.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc
import psutil
from mycel.chat.v1 import chat_service_pb2, types_pb2
from mycel.chat.v1.chat_service_pb2_grpc import ChatServiceStub

ROOT: Final = Path(__file__).resolve().parents[2]
KEY: Final = ("authorization", "Bearer mycel-dev")
ASKED: Final = "What is a semantic cache?"
# The same question in words that are no exact hit; nothing is stored on a hit, so each may be asked again and again.
IN_OTHER_WORDS: Final = ("What's a semantic cache?", "what is a semantic cache", "What is the semantic cache?")
HANDBOOK: Final = ("What is Mycel?", "What is Triton?", "What is a circuit breaker?", "What is a token?")


@dataclass(frozen=True)
class Row:
    """One measured figure."""

    name: str
    value: str
    bar: str
    met: bool | None


@dataclass(frozen=True)
class Mesh:
    """A running mesh."""

    process: subprocess.Popen[str]
    ingress: str
    seconds_to_ready: float


@contextmanager
def running_mesh(folder: Path) -> Iterator[Mesh]:
    """Starts `mycel up` and waits for its ready line."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        ingress = f"127.0.0.1:{free.getsockname()[1]}"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "OPENAI_"))}
    environment |= {"MYCEL_HOME": str(folder), "MYCEL_INGRESS": ingress, "PYTHONUNBUFFERED": "1"}
    environment.pop("MYCEL_CONFIG", None)
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "services.mesh", "up"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        seen = []
        for line in process.stdout:
            seen.append(line)
            if "Mycel is ready" in line:
                break
        else:
            sys.exit("the mesh did not start:\n" + "".join(seen))
        yield Mesh(process, ingress, time.perf_counter() - begun)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(30)


def chat_input(text: str) -> types_pb2.ChatInput:
    message = types_pb2.Message(role=types_pb2.ROLE_USER, content=[types_pb2.ContentPart(text=text)])
    return types_pb2.ChatInput(messages=[message])


async def ask(stub: ChatServiceStub, text: str, **headers: str) -> str:
    """Asks once, and gives what the cache said."""
    metadata = (KEY, *((name.replace("_", "-"), value) for name, value in headers.items()))
    call = stub.Chat(chat_service_pb2.ChatRequest(model="auto", input=chat_input(text)), metadata=metadata, timeout=30)
    await call
    return str(dict(await call.initial_metadata())["x-mycel-cache"])


async def first_token(stub: ChatServiceStub, text: str) -> float:
    """Asks past the cache, and gives the milliseconds to the first piece of text."""
    metadata = (KEY, ("x-mycel-cache", "off"))
    request = chat_service_pb2.StreamChatRequest(model="auto", input=chat_input(text))
    begun = time.perf_counter()
    found = 0.0
    async for event in stub.StreamChat(request, metadata=metadata, timeout=30):
        if event.delta.text and not found:
            found = (time.perf_counter() - begun) * 1e3
    return found


async def sample(count: int, one: Callable[[int], Awaitable[None]]) -> list[float]:
    """Gives the milliseconds of `count` calls, one after the other."""
    times = []
    for index in range(count):
        begun = time.perf_counter()
        await one(index)
        times.append((time.perf_counter() - begun) * 1e3)
    return times


async def until_stored(stub: ChatServiceStub) -> None:
    """Asks until the answer comes from the cache: answers are stored off the caller's path."""
    for _ in range(100):
        if await ask(stub, ASKED) == "exact":
            return
        await asyncio.sleep(0.05)
    sys.exit("the answer was not stored")


async def latencies(ingress: str, count: int) -> list[Row]:
    async with grpc.aio.insecure_channel(ingress) as channel:
        stub = ChatServiceStub(channel)
        await until_stored(stub)

        async def exact(_: int) -> None:
            kind = await ask(stub, ASKED)
            assert kind == "exact", kind

        async def semantic(index: int) -> None:
            kind = await ask(stub, IN_OTHER_WORDS[index % len(IN_OTHER_WORDS)])
            assert kind == "semantic", kind

        for warm_up in (exact, semantic):
            await sample(20, warm_up)
        exact_ms, semantic_ms = await sample(count, exact), await sample(count, semantic)
        for question in HANDBOOK:
            await first_token(stub, question)
        tokens_ms = [await first_token(stub, HANDBOOK[index % len(HANDBOOK)]) for index in range(count // 5)]
    http_ms = await sample(count, http_exact(ingress))
    return [
        row("exact hit, gRPC", exact_ms, 6.0),
        row("exact hit, HTTP/JSON, a connection each", http_ms, None),
        row("semantic hit, gRPC", semantic_ms, 15.0),
        row("first token of a handbook answer", tokens_ms, 150.0),
    ]


def http_exact(ingress: str) -> Callable[[int], Awaitable[None]]:
    body = json.dumps({"model": "auto", "messages": [{"role": "user", "content": ASKED}]}).encode()
    headers = {KEY[0]: KEY[1], "content-type": "application/json"}
    url = f"http://{ingress}/v1/chat/completions"

    async def one(_: int) -> None:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=30) as response:  # noqa: ASYNC210
            assert response.headers["x-mycel-cache"] == "exact"
            response.read()

    return one


def row(name: str, milliseconds: list[float], bar: float | None) -> Row:
    cuts = statistics.quantiles(milliseconds, n=100)
    value = f"p50 {cuts[49]:.1f} ms, p95 {cuts[94]:.1f} ms, p99 {cuts[98]:.1f} ms ({len(milliseconds)} calls)"
    return Row(name, value, f"p50 ≤ {bar:g} ms" if bar else "-", cuts[49] <= bar if bar else None)


def memory(process: subprocess.Popen[str]) -> Row:
    parts = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    resident = sum(part.memory_info().rss for part in parts) / 1e6
    shared_once = sum(part.memory_full_info().pss for part in parts) / 1e6
    value = f"{resident:.0f} MB in {len(parts)} processes ({shared_once:.0f} MB with shared pages counted once)"
    return Row("resident memory, idle", value, "≤ 2,000 MB", resident <= 2000)


def stop(mesh: Mesh) -> Row:
    parts = psutil.Process(mesh.process.pid).children(recursive=True)
    begun = time.perf_counter()
    mesh.process.send_signal(signal.SIGINT)
    code = mesh.process.wait(60)
    gone, alive = psutil.wait_procs(parts, timeout=10)
    seconds = time.perf_counter() - begun
    value = f"{seconds:.1f} s, exit code {code}, {len(gone)} processes gone, {len(alive)} left"
    return Row("Ctrl-C to all gone", value, "≤ 10 s", seconds <= 10 and not alive and code == 0)


def measure(count: int) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        with running_mesh(Path(folder)):
            pass  # the first start fills the operating system's file cache
        with running_mesh(Path(folder)) as mesh:
            start = Row("warm start to ready", f"{mesh.seconds_to_ready:.1f} s", "≤ 15 s", mesh.seconds_to_ready <= 15)
            idle = memory(mesh.process)
            return [start, *asyncio.run(latencies(mesh.ingress, count)), idle, stop(mesh)]


def table(rows: list[Row]) -> str:
    marks = {True: "met", False: "**missed**", None: "-"}
    lines = ["| what | measured | bar | |", "|---|---|---|---|"]
    lines += [f"| {item.name} | {item.value} | {item.bar} | {marks[item.met]} |" for item in rows]
    return "\n".join(lines)


def machine() -> str:
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.machine(),
    )
    return f"{psutil.cpu_count()} cores ({model}), {psutil.virtual_memory().total / 2**30:.0f} GiB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=300, help="calls a figure")
    parser.add_argument("--write", type=Path, help="write the table into this Markdown file, between its markers")
    arguments = parser.parse_args()
    found = table(measure(arguments.calls))
    print(f"\n{machine()}\n\n{found}")
    if arguments.write:
        begin, end = "<!-- bench:begin -->", "<!-- bench:end -->"
        text = arguments.write.read_text(encoding="utf-8")
        before, after = text.split(begin)[0], text.split(end)[1]
        arguments.write.write_text(f"{before}{begin}\n{machine()}\n\n{found}\n{end}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
