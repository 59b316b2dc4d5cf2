"""What a call costs the provider adapter in CPU time, beside the SDK alone in the same run."""

from __future__ import annotations

import asyncio
import sys
from typing import Final

import psutil
from mycel.completion.v1 import completion_service_pb2 as completion

from tests.benchmarks.reliability import speech
from tests.benchmarks.reliability.report import Figure, Section, figures
from tests.benchmarks.reliability.stack import ROOT, Candidate, Stack, configuration, question, running_stack
from tests.benchmarks.reliability.upstream import running_upstream, says

_LENGTHS: Final = (1, 50)
_WARM_UP: Final = 30


async def run(calls: int) -> Section:
    """Asks each kind through the adapter and through its bare SDK, for a short answer and a longer one."""
    found: list[Figure] = []
    async with running_upstream() as upstream:
        candidates = [
            Candidate(f"{kind}-{length}", kind, upstream.at(f"{kind}-{length}", says(length)))
            for kind in speech.KINDS
            for length in _LENGTHS
        ]
        async with running_stack(configuration(candidates, {})) as stack:
            for candidate in candidates:
                await _adapter(stack, candidate.name, _WARM_UP)
                ours = await _adapter(stack, candidate.name, calls)
                bare = await _bare(candidate, calls)
                length = candidate.name.rpartition("-")[2]
                value = f"{ours * 1e3:.2f} ms; the bare SDK {bare * 1e3:.2f} ms; ours {(ours - bare) * 1e3:.2f} ms"
                found.append(Figure(f"CPU time of a call, {candidate.kind}, {length} tokens", value))
    return Section("cost", figures(found))


async def _adapter(stack: Stack, model: str, calls: int) -> float:
    """Gives the CPU seconds of the provider process for a call."""
    request = completion.StreamCompletionRequest(model=model, input=question("speak"))
    begun = _cpu(stack.provider_process)
    for _ in range(calls):
        async for _event in stack.provider.StreamCompletion(request, timeout=30):
            pass
    return (_cpu(stack.provider_process) - begun) / calls


async def _bare(candidate: Candidate, calls: int) -> float:
    command = [sys.executable, "-m", "tests.benchmarks.reliability.bare_sdk", candidate.kind, candidate.address]
    process = await asyncio.create_subprocess_exec(*command, str(calls), cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert process.returncode == 0, candidate
    return float(output)


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system
