"""Measures local inference on this machine: `make bench-inference`.

The same model, with random weights at a real model's pace, is asked through the whole mesh, in Triton directly and in
the engine's own process; both sides of a ratio come from one run, by turns. `--write FILE` writes the table.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import tempfile
import time
from contextlib import aclosing
from pathlib import Path

import grpc
import psutil
from mycel.chat.v1.chat_service_pb2_grpc import ChatServiceStub

from services.common.settings import runtime
from services.mesh.started import StartedMesh, started_mesh, without_keys
from tests.benchmarks.bench_mesh import Row, machine, table
from tests.benchmarks.inference_calls import (
    Door,
    Stream,
    broken,
    first_of_conversation,
    follow,
    mesh_door,
    question,
    rate,
    rendered,
    triton_door,
)
from tests.benchmarks.random_gguf import write_random_gguf
from tests.integration.inference.triton_requests import triton_client

ROOT = Path(__file__).resolve().parents[2]
STREAMS = (1, 8)
MESH = """
providers: {local: {kind: triton}}
models: {bench: {provider: local, gguf: bench.gguf, context: 4608, slots: 9}}
routes: {auto: {low: [bench]}}
cache: {mode: "off"}
"""
GPU = "not run: no GPU could be had, and the script for one is still to be written"


def p(values: list[float], percent: int) -> float:
    """A percentile; of few values, the nearest that there is."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(percent / 100 * (len(ordered) - 1)))]


async def against_triton(mesh: Door, triton: Door, rounds: int, tokens: int) -> list[Row]:
    rows = []
    for streams in STREAMS:
        found: dict[str, list[tuple[float, list[float]]]] = {"mesh": [], "triton": []}
        for _ in range(rounds):
            found["mesh"].append(await rate(mesh, streams, tokens))
            found["triton"].append(await rate(triton, streams, tokens))
        rates = {name: statistics.median(speed for speed, _ in runs) for name, runs in found.items()}
        firsts = {name: p([one for _, ones in runs for one in ones], 50) for name, runs in found.items()}
        ratio, more = rates["mesh"] / rates["triton"], firsts["mesh"] - firsts["triton"]
        said = f"{ratio:.2f} ({rates['mesh']:.0f} and {rates['triton']:.0f} tokens/s)"
        rows.append(Row(f"mesh ÷ Triton, tokens/s, {streams} at once", said, "≥ 0.95", ratio >= 0.95))
        said = f"{more:+.1f} ms ({firsts['mesh']:.1f} and {firsts['triton']:.1f} ms)"
        bar = "≤ 5 ms" if streams == 1 else "-"
        rows.append(
            Row(f"mesh - Triton, first token p50, {streams} at once", said, bar, more <= 5 if bar != "-" else None)
        )
    return rows


async def against_engine(triton: Door, model_json: Path, rounds: int, tokens: int) -> list[Row]:
    """Triton first, then the engine by itself: two of them would share the processor."""
    there = {streams: [await rate(triton, streams, tokens) for _ in range(rounds)] for streams in STREAMS}
    alone = await asyncio.to_thread(engine_alone, model_json, rounds, tokens)
    rows = []
    for streams in STREAMS:
        ratio = statistics.median(speed for speed, _ in there[streams]) / statistics.median(alone[streams]["rates"])
        more = p([one for _, ones in there[streams] for one in ones], 50) - p(alone[streams]["firsts"], 50)
        said = f"{ratio:.2f} tokens/s, first token p50 {more:+.1f} ms"
        rows.append(Row(f"Triton ÷ engine in process, {streams} at once", said, "-", None))
    return rows


def engine_alone(model_json: Path, rounds: int, tokens: int) -> dict[int, dict[str, list[float]]]:
    lines = [
        "\t".join(json.dumps(rendered(question())) for _ in range(streams))
        for streams in STREAMS
        for _ in range(rounds)
    ]
    command = [runtime() / "triton" / "bin" / "python", Path(__file__).with_name("engine_alone.py"), model_json]
    numbers = map(str, (rounds, tokens, *STREAMS))
    done = subprocess.run([*command, *numbers], input="\n".join(lines), capture_output=True, text=True, check=True)
    return {int(streams): found for streams, found in json.loads(done.stdout.splitlines()[-1]).items()}


def cancellations(log: Path) -> int:
    """How many answers the backend has broken off so far."""
    return log.read_bytes().count(b": cancelled after ")


async def cancel(mesh: Door, log: Path, times: int) -> Row:
    """A caller goes away in mid-answer: when has the engine stopped, by the backend's log?"""
    milliseconds = []
    for _ in range(times):
        before = cancellations(log)
        async with aclosing(mesh(question(), 3000)) as answer:
            await anext(answer)
            begun = time.perf_counter()
        async with asyncio.timeout(30):
            while cancellations(log) == before:  # noqa: ASYNC110 - another process writes it
                await asyncio.sleep(0.001)
        milliseconds.append((time.perf_counter() - begun) * 1e3)
    p99 = p(milliseconds, 99)
    value = f"p50 {p(milliseconds, 50):.0f} ms, p99 {p99:.0f} ms ({times} times)"
    return Row("cancelled to slot free", value, "p99 ≤ 50 ms", p99 <= 50)


async def long_prompt(mesh: Door) -> Row:
    """Eight answers run; then one comes with a prompt of four thousand tokens."""
    seen = [Stream(time.perf_counter()) for _ in range(8)]
    running = [asyncio.create_task(follow(mesh, question(), 4000, one)) for one in seen]
    await asyncio.sleep(10)
    arrived = time.perf_counter()
    late = await follow(mesh, question(4000), 2)
    read = late.pieces[0]
    assert not any(task.done() for task in running), "the others ended first"
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    # The first pieces wait for the others' prompts.
    usual = [gap for one in seen for gap in one.gaps_ms(one.pieces[10], arrived)]
    meanwhile = [gap for one in seen for gap in one.gaps_ms(arrived, read)]
    ratio = p(meanwhile, 99) / p(usual, 99)
    value = (
        f"{ratio:.1f} (p99 {p(meanwhile, 99):.0f} ms, at most {max(meanwhile):.0f} ms; "
        f"before {p(usual, 99):.0f} ms); read in {late.first_ms / 1e3:.1f} s"
    )
    return Row("gap between 8 streams' tokens as 4,000 tokens are read: p99 ÷ usual p99", value, "≤ 3", ratio <= 3)


async def second_turn(stub: ChatServiceStub, times: int) -> Row:
    """A conversation of two thousand tokens, and its next turn."""
    ratios, firsts = [], []
    for _ in range(times):
        asked = question(2000)
        first = await first_of_conversation(stub, [asked], 16)
        second = await first_of_conversation(stub, [asked, first.text, question()], 16)
        ratios.append(second.first_ms / first.first_ms)
        firsts.append(first.first_ms)
    ratio = statistics.median(ratios)
    value = f"{ratio:.2f} of {statistics.median(firsts):.0f} ms"
    return Row("first token of a 2,000-token conversation's second turn ÷ first's", value, "≤ 0.4", ratio <= 0.4)


async def served_again(mesh: Door) -> float:
    """Asks until an answer comes; gives when it began."""
    while True:
        try:
            return (await follow(mesh, question(), 1)).pieces[0]
        except grpc.aio.AioRpcError:
            await asyncio.sleep(0.02)


async def dead_model(stub: ChatServiceStub, mesh: Door, triton_pid: int) -> list[Row]:
    """Eight answers run when the model's process is killed."""
    has_begun = [asyncio.Event() for _ in range(8)]
    calls = [asyncio.create_task(broken(stub, 400, one)) for one in has_begun]
    await asyncio.gather(*(one.wait() for one in has_begun))
    model = next(one for one in psutil.Process(triton_pid).children() if "stub" in one.exe())
    killed = time.perf_counter()
    model.kill()
    served = await served_again(mesh) - killed
    told = await asyncio.gather(*calls)
    # The router carries an answer on when the model is back in time, as far as its budget of retries goes.
    longest = max((at - killed for at, code in told if code is not grpc.StatusCode.OK), default=0.0)
    carried_on = sum(code is grpc.StatusCode.OK for _, code in told)
    return [
        Row(
            "model killed: the last caller has its error",
            f"{longest * 1e3:.0f} ms, {carried_on} of 8 carried on",
            "≤ 1 s",
            longest <= 1,
        ),
        Row("model killed: the next request is served", f"{served:.1f} s", "≤ 5 s", served <= 5),
    ]


def triton_pid(mesh: StartedMesh) -> int:
    """The server's process."""
    found = [one for one in psutil.Process(mesh.process.pid).children() if one.name() == "tritonserver"]
    return found[0].pid


async def measure(mesh: StartedMesh, home: Path, rounds: int, tokens: int) -> list[Row]:
    async with (
        grpc.aio.insecure_channel(mesh.state.ingress) as channel,
        triton_client(mesh.state.triton_grpc) as client,
    ):
        stub = ChatServiceStub(channel)
        through, direct = mesh_door(stub), triton_door(client)
        for warm_up in (through, direct):
            await rate(warm_up, 8, 16)
        rows = await against_triton(through, direct, rounds, tokens)
        rows.append(await cancel(through, home / "logs" / "triton.log", rounds * 5))
        rows.append(await long_prompt(through))
        rows.append(await second_turn(stub, rounds))
        rows += await dead_model(stub, through, triton_pid(mesh))
        model_json = home / "triton" / "models" / "bench" / "1" / "model.json"
        return rows + await against_engine(direct, model_json, rounds, tokens)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=6, help="repetitions of each figure")
    parser.add_argument("--tokens", type=int, default=128, help="tokens an answer, where speed is measured")
    parser.add_argument("--write", type=Path, help="write the table into this Markdown file, between its markers")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mycel-bench-") as name:
        folder = Path(name)
        write_random_gguf(folder / "bench.gguf")
        (folder / "mesh.yaml").write_text(MESH)
        settings = {**without_keys(), "MYCEL_CONFIG": str(folder / "mesh.yaml")}
        with started_mesh(folder / "state", settings) as mesh:
            rows = asyncio.run(measure(mesh, folder / "state", arguments.rounds, arguments.tokens))
    rows.append(Row("Llama-3-8B's shape on a GPU", GPU, "≥ 0.6 of bandwidth ÷ bytes", None))
    found = table(rows)
    print(f"\n{machine()}\n\n{found}")
    if arguments.write:
        begin, end = "<!-- bench-inference:begin -->", "<!-- bench-inference:end -->"
        text = arguments.write.read_text(encoding="utf-8")
        before, after = text.split(begin)[0], text.split(end)[1]
        arguments.write.write_text(f"{before}{begin}\n{machine()}\n\n{found}\n{end}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
