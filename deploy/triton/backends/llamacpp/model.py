# ruff: noqa: INP001 - Triton loads this file by its path
"""Triton's llama.cpp backend: GGUF models on a CPU, behind the tensors of the vLLM backend.

A model of it is a folder with `config.pbtxt` (`backend: "llamacpp"`) and `1/model.json`. Requests
share the engine's slots (continuous batching); each slot has a worker thread here, and requests
beyond the slots wait in a bounded queue, where a cancellation is still seen.

Neither Triton's custom metrics nor its logger is used: their messages to the server, when sent
from several threads at once, corrupt the shared memory and crash it (seen with Triton 24.10).
"""

from __future__ import annotations

import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils
from mycel_llamacpp.engine import EngineSettings, check_grammar, load_engine
from mycel_llamacpp.failures import InvalidRequestError, NotAcceptingError, RequestCancelledError
from mycel_llamacpp.generation import Generation
from mycel_llamacpp.guard import Guard
from mycel_llamacpp.parent import exit_with_parent
from mycel_llamacpp.progress import Progress
from mycel_llamacpp.replies import Reply
from mycel_llamacpp.sampling import parse_sampling
from mycel_llamacpp.spans import GenerateSpan, Spans
from mycel_llamacpp.tensors import read_inputs


class TritonPythonModel:
    """The class that Triton's Python stub looks for; one instance a model."""

    def initialize(self, args: dict[str, str]) -> None:
        """Loads the model; an exception makes Triton report the load as failed, with its text."""
        exit_with_parent()
        started = time.monotonic()
        settings = EngineSettings.read(Path(pb_utils.get_model_dir()) / "model.json")
        self._name = args["model_name"]
        self._engine: Any = load_engine(settings)
        self._spans = Spans(self._name)
        self._workers = ThreadPoolExecutor(settings.slots, thread_name_prefix="generate")
        self._room = threading.Semaphore(settings.slots + settings.queue)
        self._closing = threading.Event()
        self._progress = Progress()
        self._guard = Guard(self._name, lambda: not self._progress.is_stuck())
        seconds = time.monotonic() - started
        self._log(f"{settings.model} is ready after {seconds:.2f} s")

    def execute(self, requests: list[Any]) -> None:
        """Hands requests to the workers and returns at once: the model is decoupled."""
        for request in requests:
            reply = Reply(request.get_response_sender())
            if self._closing.is_set():
                reply.fail(NotAcceptingError("the model is shutting down"))
            elif not self._room.acquire(blocking=False):
                reply.fail(NotAcceptingError("the model's queue is full"))
            else:
                self._workers.submit(self._work, request, reply)

    def finalize(self) -> None:
        """Lets answers in progress end as cancelled, then frees the engine."""
        self._closing.set()
        self._workers.shutdown(wait=True)
        self._engine = None
        self._spans.close()
        self._guard.close()

    def _work(self, request: Any, reply: Reply) -> None:
        """Serves one request in a worker thread; nothing may escape it."""
        generation = Generation(on_chunk=reply.add, is_cancelled=lambda: self._is_cancelled(reply))
        failure = ""
        span: GenerateSpan | None = None
        self._progress.begin()
        try:
            span = self._spans.start(request)
            self._generate(request, reply, generation)
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller must get an end
            failure = type(error).__name__
            self._report(error, reply, generation.tokens)
        finally:
            self._progress.end()
            self._room.release()
            if span:
                span.end(generation, failure)

    def _is_cancelled(self, reply: Reply) -> bool:
        self._progress.moved()  # the engine's callback asks, as it reads the prompt and with each token
        return self._closing.is_set() or reply.is_cancelled()

    def _generate(self, request: Any, reply: Reply, generation: Generation) -> None:
        if generation.is_cancelled():
            raise RequestCancelledError
        inputs = read_inputs(request)
        sampling = parse_sampling(inputs.sampling, check_grammar)
        if inputs.returned & {"logprobs", "cumulative_logprob"}:
            sampling.setdefault("logprobs", 1)
        reply.open(inputs)
        generation.run(self._engine, inputs.prompt, sampling)

    def _report(self, error: Exception, reply: Reply, tokens: int) -> None:
        if isinstance(error, RequestCancelledError):
            self._log(f"cancelled after {tokens} tokens")
            if self._closing.is_set():
                error = NotAcceptingError("the model is shutting down")
        elif not isinstance(error, InvalidRequestError):
            self._log(f"failed after {tokens} tokens: {type(error).__name__}: {error}")
        reply.fail(error)

    def _log(self, text: str) -> None:
        print(f"llamacpp: {self._name}: {text}", file=sys.stderr, flush=True)  # noqa: T201
