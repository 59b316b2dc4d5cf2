"""Trains the handbook Llama on models/handbook and writes it as GGUF, then measures it through llama.cpp.

python -m training.train [--out FILE] [--steps N] [--seed N] [--rehearsal]
"""

from __future__ import annotations

import argparse
import dataclasses
import random
import sys
import time
from pathlib import Path

import jax
from tokenizers import Tokenizer

from training.batches import Batch, BatchMaker
from training.chat import train_tokenizer
from training.engine import Engine
from training.evaluate import DEFAULT_MODEL, evaluate, report
from training.examples import ExampleSource, tokenizer_texts
from training.export import write_gguf
from training.handbook import Handbook, Pair, load_handbook
from training.network import Shape, count_params, init_params
from training.optimise import Schedule, as_numpy, make_step, new_state

DEFAULT_STEPS = 1000
SAVE_EVERY = 250
ROWS, ROW_TOKENS = 28, 192
CUT_ANSWER_TOKENS = 8
LONG_ROWS, LONG_TOKENS = 10, 512


def rehearsal_of(handbook: Handbook) -> Handbook:
    """The handbook with the last taught phrasing in place of the held-out ones.

    Settings are chosen on this, so that the held-out phrasings stay unseen until the final figure.
    """

    def shift(pair: Pair) -> Pair:
        return dataclasses.replace(pair, phrasings=pair.phrasings[:-1], held_out=pair.phrasings[-1:])

    return dataclasses.replace(handbook, pairs=tuple(map(shift, handbook.pairs)))


def next_batch(maker: BatchMaker, step: int) -> Batch:
    """The batch for a step.

    Of twenty, one holds long prompts and long conversations, six whole answers, half of them as turns of
    conversations, and thirteen many questions with only the tokens that decide which answer it is.
    """
    place = step % 20
    if place == 0:
        return maker.make(LONG_ROWS, LONG_TOKENS, joined=1.0, long=0.15)
    if place % 3 == 0:
        return maker.make(ROWS, ROW_TOKENS, joined=0.5)
    return maker.make(ROWS, ROW_TOKENS, answer_tokens=CUT_ANSWER_TOKENS)


def train(handbook: Handbook, schedule: Schedule, seed: int, out: Path) -> None:
    """Train and write the GGUF to `out`, printing the loss on the way."""
    rng = random.Random(seed)
    tokenizer: Tokenizer = train_tokenizer(tokenizer_texts(handbook, rng), Shape().vocabulary)
    shape = Shape(vocabulary=tokenizer.get_vocab_size())
    key, init_key = jax.random.split(jax.random.key(seed, impl="rbg"))
    state = new_state(init_params(shape, init_key))
    parameters = count_params(state.params)
    print(f"{parameters / 1e6:.2f} million parameters, {shape.vocabulary} tokens, {schedule.steps} steps", flush=True)
    maker = BatchMaker(ExampleSource(handbook, rng), tokenizer, rng)
    run_step = make_step(shape, schedule)
    began = time.monotonic()
    for step in range(schedule.steps):
        batch = next_batch(maker, step)
        key, step_key = jax.random.split(key)
        state, loss = run_step(state, batch, step_key)
        if step % 50 == 1 or step + 1 == schedule.steps:
            print(f"step {step:>5}  loss {float(loss):.3f}  {time.monotonic() - began:.0f} s", flush=True)
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == schedule.steps:
            write_gguf(out, as_numpy(state.average), shape, tokenizer, parameters)
    print(f"wrote {out.name}, {out.stat().st_size / 1e6:.1f} MB, after {time.monotonic() - began:.0f} s", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=DEFAULT_MODEL, help="where to write the GGUF file")
    parser.add_argument("--steps", type=int, default=DEFAULT_STEPS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--rehearsal", action="store_true", help="hold out a taught phrasing instead, to choose settings by"
    )
    args = parser.parse_args()
    if args.rehearsal and args.out == DEFAULT_MODEL:
        parser.error("a rehearsal needs its own --out")
    handbook = rehearsal_of(load_handbook()) if args.rehearsal else load_handbook()
    train(handbook, Schedule(steps=args.steps), args.seed, args.out)
    results = evaluate(Engine(args.out), handbook, show_wrong=args.rehearsal)
    print(report(results))
    return 0 if all(result.passed for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
