"""One answer: drives the engine and passes its chunks on, until the end or a cancellation."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from mycel_llamacpp.engine import Engine
from mycel_llamacpp.failures import EngineError, InvalidRequestError, RequestCancelledError

_CANCEL_CHECK_SECONDS: Final = 0.01
"""Asking Triton whether a request is cancelled costs a lock: not for every token."""

_BAD_REQUEST: Final = 400


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of an answer.

    Attributes:
        text: Text to append; whole UTF-8 characters.
        new_tokens: Tokens generated since the chunk before.
        prompt_tokens: Tokens of the prompt.
        finish_reason: `stop` or `length` on the last chunk, else None.
        cumulative_logprob: Sum over the tokens so far, when log probabilities were asked for.
        cached_tokens: Tokens of the prompt that were read for an earlier request already.
        logprobs: One entry a token, in the form of vLLM's backend: token id to its facts, the
            sampled token first.
    """

    text: str
    new_tokens: int
    prompt_tokens: int
    finish_reason: str | None
    cumulative_logprob: float
    logprobs: list[dict[str, dict[str, Any]]]
    cached_tokens: int = 0


@dataclass(slots=True)
class Generation:
    """The state of one answer.

    Attributes:
        on_chunk: Takes each piece.
        is_cancelled: Says whether nobody wants the answer any more.
        prompt_tokens: Tokens of the prompt, once known.
        cached_tokens: Those of them that were read for an earlier request already.
        tokens: Tokens generated so far.
        finish_reason: Why it ended; None before.
        first_token_at: When the first token came, on the clock of `time.monotonic`; None before.
    """

    on_chunk: Callable[[Chunk], None]
    is_cancelled: Callable[[], bool]
    prompt_tokens: int = 0
    cached_tokens: int = 0
    tokens: int = 0
    finish_reason: str | None = None
    first_token_at: float | None = None
    _cumulative_logprob: float = 0.0
    _next_cancel_check: float = 0.0
    _failure: Exception | None = field(default=None)

    def run(self, engine: Engine, prompt: str | list[int | str], sampling: dict[str, Any]) -> None:
        """Generates the answer; returns when the last chunk was passed on.

        Raises:
            InvalidRequestError: The engine refuses the request, such as for a prompt that is too long.
            RequestCancelledError: `is_cancelled` said so.
            EngineError: The engine failed, or ended without a last chunk.
        """
        request = {**sampling, "prompt": prompt, "stream": True, "return_progress": True}
        try:
            engine.handle_completions(request, self._take)
        except RuntimeError as error:
            raise EngineError(str(error)) from error
        if self._failure is not None:
            raise self._failure
        if self.finish_reason is None:
            raise EngineError("the engine ended without a last chunk")

    def _take(self, raw: dict[str, Any]) -> bool:
        """Takes a chunk of the engine; True stops it. The binding would swallow an exception."""
        try:
            self._check_cancelled()
            if "error" in raw:
                raise _engine_error(raw["error"])
            if "prompt_progress" in raw:
                self.prompt_tokens = raw["prompt_progress"]["total"]
                self.cached_tokens = raw["prompt_progress"].get("cache", 0)
            else:
                self.on_chunk(self._chunk(raw))
        except Exception as failure:  # noqa: BLE001 - raised by `run`
            self._failure = failure
            return True
        return False

    def _check_cancelled(self) -> None:
        now = time.monotonic()
        if now < self._next_cancel_check:
            return
        self._next_cancel_check = now + _CANCEL_CHECK_SECONDS
        if self.is_cancelled():
            raise RequestCancelledError

    def _chunk(self, raw: dict[str, Any]) -> Chunk:
        if self.first_token_at is None:
            self.first_token_at = time.monotonic()
        choice = raw["choices"][0]
        usage = raw.get("usage")
        if usage:  # on the last chunk only: the exact numbers
            self.prompt_tokens = usage["prompt_tokens"]
            new_tokens = max(0, usage["completion_tokens"] - self.tokens)
        else:
            new_tokens = 1
        self.tokens += new_tokens
        self.finish_reason = choice["finish_reason"]
        return Chunk(
            text=choice["text"],
            new_tokens=new_tokens,
            prompt_tokens=self.prompt_tokens,
            cached_tokens=self.cached_tokens,
            finish_reason=self.finish_reason,
            logprobs=self._logprobs(choice.get("logprobs")),
            cumulative_logprob=self._cumulative_logprob,
        )

    def _logprobs(self, raw: dict[str, Any] | None) -> list[dict[str, dict[str, Any]]]:
        records = []
        for sampled in (raw or {}).get("content", []):
            self._cumulative_logprob += sampled["logprob"]
            record = {str(sampled["id"]): _token_facts(sampled, None)}
            for rank, token in enumerate(sampled["top_logprobs"], start=1):
                record[str(token["id"])] = _token_facts(token, rank)
            records.append(record)
        return records


def _token_facts(token: dict[str, Any], rank: int | None) -> dict[str, Any]:
    facts = {"logprob": token["logprob"], "decoded_token": token["token"], "bytes": token["bytes"]}
    return facts if rank is None else {**facts, "rank": rank}


def _engine_error(error: dict[str, Any]) -> Exception:
    message = str(error.get("message", error))
    if error.get("code") == _BAD_REQUEST:
        return InvalidRequestError(message)
    return EngineError(message)
