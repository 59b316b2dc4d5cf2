"""What Triton says of itself and its models: whether a model can be asked, and how."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Final, TypeVar

import tritonclient.grpc.aio as triton
from mycel.error.v1.error_reason_pb2 import ErrorReason
from tritonclient.utils import InferenceServerException

from services.common.errors import MycelError
from services.inference.compatibility import model_problem, server_problem

_STATE_SECONDS: Final = 2.0
"""How long Triton may take to say how it is."""

_CHANNEL: Final = (
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)

T = TypeVar("T")


class TritonState:
    """Asks one Triton how it is. Made inside the event loop, and closed with `aclose`."""

    def __init__(self, address: str) -> None:
        # tritonclient has no type annotations.
        self._client: Any = triton.InferenceServerClient(address, channel_args=list(_CHANNEL))  # type: ignore[no-untyped-call]

    async def aclose(self) -> None:
        """Closes the connection."""
        await self._client.close()

    async def check_ready(self, triton_model: str) -> None:
        """Returns when a model can be asked.

        Raises:
            MycelError: BACKEND_MODEL_MISSING when Triton has none of that name, BACKEND_UNAVAILABLE when it has not
                loaded it, with its reason, or does not answer.
        """
        if await _answer(self._client.is_model_ready(triton_model, client_timeout=_STATE_SECONDS)):
            return
        index = await _answer(self._client.get_model_repository_index(client_timeout=_STATE_SECONDS))
        known = [model for model in index.models if model.name == triton_model]
        if not known:
            there = ", ".join(sorted({str(model.name) for model in index.models})) or "none"
            why = f"Triton has no model {triton_model}; there are: {there}"
            raise MycelError(ErrorReason.ERROR_REASON_BACKEND_MODEL_MISSING, why)
        raise _unavailable(_why(str(known[0].state), str(known[0].reason)))

    async def input_names(self, triton_model: str) -> frozenset[str]:
        """Tells which inputs a ready model has: they show which engine it is.

        Raises:
            MycelError: BACKEND_UNAVAILABLE, when Triton does not answer, is of a version that is not known to work, or
                the model's tensors are not those that are spoken here.
        """
        server = await _answer(self._client.get_server_metadata(client_timeout=_STATE_SECONDS))
        if problem := server_problem(str(server.name), str(server.version)):
            raise _unavailable(problem)
        model = await _answer(self._client.get_model_metadata(triton_model, client_timeout=_STATE_SECONDS))
        inputs = {str(tensor.name): str(tensor.datatype) for tensor in model.inputs}
        outputs = {str(tensor.name): str(tensor.datatype) for tensor in model.outputs}
        if problem := model_problem(inputs, outputs):
            raise _unavailable(problem)
        return frozenset(inputs)


def _why(state: str, reason: str) -> str:
    """Says why a model that Triton has is not ready, in one line."""
    if state in ("LOADING", "UNLOADING"):
        return f"Triton is {state.lower()} it"
    if reason == "unloaded":
        return "it is unloaded in Triton"
    if not reason:
        # So it shows a model whose config.pbtxt it cannot read, too: what is wrong is told to its log alone.
        return "Triton has not loaded it, or cannot read its config.pbtxt: see its log"
    # A Python backend's reason is the error, and then the traceback.
    return f"Triton could not load it: {reason.strip().splitlines()[0]}"


async def _answer(call: Awaitable[T]) -> T:
    try:
        return await call
    except InferenceServerException as error:
        raise _unavailable(f"Triton does not answer: {error}") from error


def _unavailable(why: str) -> MycelError:
    return MycelError(ErrorReason.ERROR_REASON_BACKEND_UNAVAILABLE, why)
