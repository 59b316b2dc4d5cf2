"""Measures the shipped handbook Llama through llama.cpp, and fails below the bars.

python -m training.evaluate [--model FILE] [--json FILE] [--wrong]
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from training.chat import Message
from training.engine import Engine
from training.handbook import HANDBOOK_DIR, Handbook, load_handbook
from training.score import is_right, is_verbatim
from training.tokens_check import differing_texts

DEFAULT_MODEL = HANDBOOK_DIR / "handbook-llama.gguf"
UNRELATED_ID = "unrelated"


@dataclass(frozen=True, slots=True)
class Asked:
    """One question put to the model."""

    group: str
    wanted_id: str
    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Result:
    """How a group of questions was answered; `bar` is the least share of right answers, if there is one."""

    group: str
    asked: int
    right: int
    verbatim: int
    bar: float | None = None

    @property
    def share(self) -> float:
        return self.right / self.asked

    @property
    def passed(self) -> bool:
        return self.bar is None or self.share >= self.bar


BARS = {"main phrasings": 0.9, "held-out phrasings": 0.6}


def questions(handbook: Handbook) -> list[Asked]:
    """Everything the evaluation asks, group by group."""
    rng = random.Random(0)
    systems = handbook.unrelated.system_messages
    refusal = handbook.unrelated.answer
    asked: list[Asked] = []
    for pair in handbook.pairs:
        question = Message("user", pair.question)
        asked.append(Asked("main phrasings", pair.id, (question,)))
        asked += [Asked("held-out phrasings", pair.id, (Message("user", text),)) for text in pair.held_out]
        system = Message("system", rng.choice(systems))
        asked.append(Asked("main, after a system message", pair.id, (system, question)))
        before = rng.choice(handbook.pairs)
        history = (Message("user", before.question), Message("assistant", before.answer))
        asked.append(Asked("main, as a second question", pair.id, (*history, question)))
        history = (Message("user", rng.choice(handbook.unrelated.prompts)), Message("assistant", refusal))
        asked.append(Asked("main, after an unrelated prompt", pair.id, (*history, question)))
    for text in handbook.unrelated.held_out:
        asked.append(Asked("unrelated, held out", UNRELATED_ID, (Message("user", text),)))
    return sorted(asked, key=lambda item: list(_groups(asked)).index(item.group))


def _groups(asked: Iterable[Asked]) -> dict[str, None]:
    return dict.fromkeys(item.group for item in asked)


def evaluate(engine: Engine, handbook: Handbook, *, show_wrong: bool = False) -> list[Result]:
    """Ask everything and count, one result a group."""
    answers = {pair.id: pair.answer for pair in handbook.pairs} | {UNRELATED_ID: handbook.unrelated.answer}
    asked = questions(handbook)
    results = []
    for group in _groups(asked):
        right = verbatim = total = 0
        for item in (item for item in asked if item.group == group):
            given = engine.answer(list(item.messages))
            ok = is_right(given, item.wanted_id, answers)
            right, verbatim, total = right + ok, verbatim + is_verbatim(given, answers[item.wanted_id]), total + 1
            if show_wrong and not ok:
                print(f"  {group} | {item.wanted_id} | {item.messages[-1].content}\n      {given}")
        results.append(Result(group, total, right, verbatim, BARS.get(group)))
    return results


def report(results: list[Result]) -> str:
    """The figures as a table."""
    lines = [f"{'group':<34}{'asked':>6}{'right':>7}{'share':>8}{'word for word':>15}{'bar':>6}"]
    lines += [
        f"{result.group:<34}{result.asked:>6}{result.right:>7}{result.share:>8.1%}"
        f"{result.verbatim / result.asked:>15.1%}{'' if result.bar is None else f'{result.bar:.0%}':>6}"
        for result in results
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL, help="the GGUF file to measure")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--wrong", action="store_true", help="print every wrong answer")
    args = parser.parse_args()
    if not args.model.is_file():
        print(f"no model at {args.model}", file=sys.stderr)
        return 2
    engine, handbook = Engine(args.model), load_handbook()
    compared, differing = differing_texts(engine, args.model, handbook)
    print(f"tokenizer: {compared} texts, {len(differing)} cut differently by llama.cpp than in training")
    results = evaluate(engine, handbook, show_wrong=args.wrong)
    print(report(results))
    if args.json:
        args.json.write_text(json.dumps([asdict(result) for result in results], indent=2) + "\n", encoding="utf-8")
    return 0 if not differing and all(result.passed for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
