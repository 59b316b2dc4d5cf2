"""The tables of docs/reliability.md that are not measured: errors, and the fields of mesh.yaml."""

from __future__ import annotations

import ast
import inspect
import re
from datetime import timedelta
from pathlib import Path
from typing import Final

from google.rpc import code_pb2
from mycel.error.v1.error_reason_pb2 import ErrorReason

from services.common.config import ReliabilityConfig
from services.common.config.parts import Part
from services.common.errors import MEANINGS, reason_name
from tests.benchmarks.reliability.report import Section, table

_PROTO: Final = Path(__file__).resolve().parents[3] / "protos" / "mycel" / "error" / "v1" / "error_reason.proto"
_HTTP: Final = {
    code_pb2.INVALID_ARGUMENT: 400,
    code_pb2.UNAUTHENTICATED: 401,
    code_pb2.PERMISSION_DENIED: 403,
    code_pb2.NOT_FOUND: 404,
    code_pb2.RESOURCE_EXHAUSTED: 429,
    code_pb2.CANCELLED: 499,
    code_pb2.INTERNAL: 500,
    code_pb2.UNAVAILABLE: 503,
    code_pb2.DEADLINE_EXCEEDED: 504,
}
_OWN_HTTP: Final = {ErrorReason.ERROR_REASON_REQUEST_TOO_LARGE: 413}
_COMMENT: Final = re.compile(r"// (ERROR_REASON_\w+): ((?:.|\n  //)*?)[.;:](?=\s)")


async def run_errors() -> Section:
    return Section("errors", error_table())


async def run_fields() -> Section:
    return Section("fields", field_table())


def error_table() -> str:
    """Gives a row a reason, from services/common/errors.py and the contract's comments."""
    told = {
        name: " ".join(text.replace("\n  //", " ").split())
        for name, text in _COMMENT.findall(_PROTO.read_text(encoding="utf-8"))
    }
    rows = [
        (
            f"`{reason_name(reason)}`",
            told[ErrorReason.Name(reason)],
            "yes" if meaning.failover else "no",
            "yes" if meaning.provider_fault else "no",
            f"{code_pb2.Code.Name(meaning.code)}, {_OWN_HTTP.get(reason, _HTTP[meaning.code])}",
        )
        for reason, meaning in MEANINGS.items()
    ]
    head = ("reason", "what happened", "next model", "breaker, asked again", "the caller's status when all failed")
    return table(head, rows)


def field_table() -> str:
    """Gives a row a field of `reliability`, from the configuration's own docstrings."""
    return table(("field", "default", "meaning"), _fields(ReliabilityConfig, "reliability"))


def _fields(part: type[Part], path: str) -> list[tuple[str, str, str]]:
    told = _docstrings(part)
    rows: list[tuple[str, str, str]] = []
    for name, field in part.model_fields.items():
        if isinstance(field.default, Part):
            rows += _fields(type(field.default), f"{path}.{name}")
        else:
            rows.append((f"`{path}.{name}`", _shown(field.default), told[name]))
    return rows


def _docstrings(part: type[Part]) -> dict[str, str]:
    [definition] = ast.parse(inspect.getsource(part)).body
    assert isinstance(definition, ast.ClassDef)
    found: dict[str, str] = {}
    for field, text in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
            found[field.target.id] = " ".join(ast.literal_eval(text.value).split())
    return found


def _shown(default: object) -> str:
    if not isinstance(default, timedelta):
        return f"{default}"
    seconds = default.total_seconds()
    if seconds < 1:
        return f"{seconds * 1e3:g}ms"
    return f"{seconds / 60:g}m" if seconds >= 120 else f"{seconds:g}s"
