"""Which servers and models can be spoken to: told once, by name, and not by how a call fails."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

OLDEST_TRITON: Final = (2, 40)
"""Believed to be the first that passes a caller's cancellation on to a stream's model; only 2.51 was run against."""
_MAJOR: Final = OLDEST_TRITON[0]
_VERSION: Final = re.compile(r"(\d+)\.(\d+)")

_INPUTS: Final = {
    "text_input": "BYTES",
    "stream": "BOOL",
    "sampling_parameters": "BYTES",
    "exclude_input_in_output": "BOOL",
    "return_finish_reason": "BOOL",
    "return_num_input_tokens": "BOOL",
    "return_num_output_tokens": "BOOL",
}
_OUTPUTS: Final = {
    "text_output": "BYTES",
    "finish_reason": "BYTES",
    "num_input_tokens": "UINT32",
    "num_output_tokens": "UINT32",
}


def server_problem(name: str, version: str) -> str:
    """Says why a server cannot be spoken to; empty when it can.

    Args:
        name: by its metadata.
        version: by its metadata, such as `2.51.0`.
    """
    if name != "triton":
        return f"the server is {name or 'nameless'} and not Triton"
    found = _VERSION.match(version)
    oldest = ".".join(map(str, OLDEST_TRITON))
    if found is None or int(found[1]) != _MAJOR or (int(found[1]), int(found[2])) < OLDEST_TRITON:
        return f"Triton is of version {version or 'unknown'}; {oldest} and later ones of {_MAJOR} are accepted"
    return ""


def model_problem(inputs: Mapping[str, str], outputs: Mapping[str, str]) -> str:
    """Says why a model cannot be spoken to; empty when it has the tensors of the vLLM backend.

    Args:
        inputs: its inputs' Triton types by name.
        outputs: its outputs', likewise.
    """
    for kind, needed, there in (("input", _INPUTS, inputs), ("output", _OUTPUTS, outputs)):
        for name, datatype in needed.items():
            if name not in there:
                return f"its configuration has no {kind} {name!r}: it is not a model of the vLLM or llamacpp backend"
            if there[name] != datatype:
                return f"its configuration's {kind} {name!r} is {there[name]} and not {datatype}"
    return ""
