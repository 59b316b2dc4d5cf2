"""Runs the engine without Triton, in its own runtime: `python engine_alone.py MODEL_JSON ROUNDS TOKENS STREAMS…`.

Prints one JSON object: for each number of streams, the tokens a second and the milliseconds to the first token.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "deploy" / "triton" / "backends" / "llamacpp"))

from mycel_llamacpp.engine import EngineSettings, load_engine


def run(engine: object, prompts: list[str], tokens: int) -> tuple[float, list[float]]:
    """Generates all at once; gives tokens a second and each one's milliseconds to the first token."""
    firsts = [0.0] * len(prompts)

    def one(index: int) -> None:
        begun = time.perf_counter()

        def take(chunk: dict) -> bool:
            if not firsts[index] and "choices" in chunk:
                firsts[index] = (time.perf_counter() - begun) * 1e3
            return False

        request = {"prompt": prompts[index], "stream": True, "max_tokens": tokens, "temperature": 0}
        engine.handle_completions(request, take)

    threads = [threading.Thread(target=one, args=(index,)) for index in range(len(prompts))]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return tokens * len(prompts) / (time.perf_counter() - begun), firsts


def main() -> None:
    path, rounds, tokens = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    engine = load_engine(EngineSettings.read(path))
    found = {}
    for streams in map(int, sys.argv[4:]):
        runs = []
        for turn in range(rounds):
            prompts = [json.loads(line) for line in sys.stdin.readline().split("\t")]
            assert len(prompts) == streams, turn
            runs.append(run(engine, prompts, tokens))
        found[streams] = {"rates": [rate for rate, _ in runs], "firsts": [one for _, firsts in runs for one in firsts]}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
