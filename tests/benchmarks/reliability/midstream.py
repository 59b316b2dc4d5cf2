"""The upstream dies after every token of an answer; the caller's text is that of an undisturbed answer."""

from __future__ import annotations

import asyncio
from typing import Final

import grpc

from tests.benchmarks.reliability import speech
from tests.benchmarks.reliability.report import Figure, Section, figures
from tests.benchmarks.reliability.stack import Candidate, Stack, configuration, running_stack
from tests.benchmarks.reliability.upstream import Exchange, dies_after, running_upstream, says

_RELIABILITY: Final = {"breaker": {"failures": 1_000_000}, "hedge": {"share": 0}}


async def run(length: int, *, step: int = 1) -> Section:
    """Kills each kind after 1, 1 + step, … tokens of an answer; each is carried on by each kind in turn."""
    answer = "".join(speech.tokens(length))
    after: dict[str, int] = {}
    async with running_upstream() as upstream:

        def dying(route: str, kind: str) -> Candidate:
            async def die(exchange: Exchange) -> None:
                await dies_after(after[route], length)(exchange)

            return Candidate(f"dying-{route}", kind, upstream.at(f"dying-{route}", die))

        candidates = []
        routes = {}
        for kind in speech.KINDS:
            name = f"healthy-{kind}"
            candidates.append(Candidate(name, kind, upstream.at(name, says(length))))
            for behind in speech.KINDS:
                route = f"{kind}-{behind}"
                candidates.append(dying(route, kind))
                routes[route] = [f"dying-{route}", f"healthy-{behind}"]
        async with running_stack(configuration(candidates, routes, _RELIABILITY)) as stack:

            async def kill(kind: str) -> list[str]:
                wrong = []
                for place, tokens in enumerate(range(1, length + 1, step)):
                    route = f"{kind}-{speech.KINDS[place % len(speech.KINDS)]}"
                    after[route] = tokens
                    problem = await _problem(stack, route, answer, tokens)
                    wrong += [f"{route} after {tokens} tokens: {problem}"] if problem else []
                return wrong

            found = await asyncio.gather(*(kill(kind) for kind in speech.KINDS))
    kills = len(range(1, length + 1, step))
    rows = [
        Figure(
            f"{kind} killed after every token of {length}"
            if step == 1
            else f"{kind} killed after every {step}th token",
            f"{kills - len(wrong)} of {kills} answers the same byte for byte, with one usage record that adds up",
            "all",
            not wrong,
        )
        for kind, wrong in zip(speech.KINDS, found, strict=True)
    ]
    shown = "".join(f"\n- {problem}" for wrong in found for problem in wrong[:5])
    return Section("midstream", figures(rows) + (f"\n{shown}" if shown else ""))


async def _problem(stack: Stack, route: str, answer: str, sent: int) -> str:
    """Says what is wrong with the answer; nothing when it is right.

    A model that is told in words to go on is paid for the words that it repeats, too.
    """
    try:
        told = await stack.ask(route, streamed=True)
    except grpc.aio.AioRpcError as error:
        return f"{error.code().name}: {error.details()}"
    if told.text != answer:
        place = next(
            (place for place, (one, two) in enumerate(zip(told.text, answer, strict=False)) if one != two), len(answer)
        )
        return f"the text differs from character {place}: {told.text[max(place - 20, 0) : place + 40]!r}"
    if told.switches != 1:
        return f"{told.switches} switches were announced"
    length = len(answer.split())
    sums = (length, length + min(sent, speech.REPEATED))
    right = told.usages == 1 and told.usage.prompt_tokens == speech.PROMPT_TOKENS
    return "" if right and told.usage.completion_tokens in sums else f"{told.usages} usage records, {told.usage}"
