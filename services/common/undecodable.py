"""Requests that are no valid message: found before the handler runs, and refused like any other bad input.

grpc answers INTERNAL when a deserializer raises. Ours never does: it gives the handler's wrapper an `Undecodable`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError

from services.common.errors import MycelError, invalid

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True, slots=True)
class Undecodable:
    """What came instead of a message."""

    error: MycelError


def tolerant(deserialize: Callable[[bytes], Any] | None) -> Callable[[bytes], Any] | None:
    """Wraps a message's `FromString` so that it gives an `Undecodable` instead of raising."""
    if deserialize is None:
        return None

    def decode(data: bytes) -> Any:
        try:
            return deserialize(data)
        except DecodeError:
            descriptor: Descriptor | None = getattr(getattr(deserialize, "__self__", None), "DESCRIPTOR", None)
            field = find_invalid_utf8(data, descriptor) if descriptor is not None else ""
            if field:
                return Undecodable(invalid(field, "is not valid UTF-8"))
            name = descriptor.full_name if descriptor is not None else "message"
            return Undecodable(invalid("request", f"is not a valid {name}"))

    return decode


def find_invalid_utf8(data: bytes, descriptor: Descriptor) -> str:
    """Gives the path of the first string field that is not UTF-8, such as `input.messages[0].name`, else nothing."""
    counts: dict[int, int] = {}
    try:
        for number, value in _length_delimited(data):
            field = descriptor.fields_by_number.get(number)
            if field is None:
                continue
            index = counts.get(number, 0)
            counts[number] = index + 1
            name = f"{field.name}[{index}]" if field.is_repeated else field.name
            if field.type == FieldDescriptor.TYPE_STRING and not _is_utf8(value):
                return name
            if field.message_type is not None:
                inner = find_invalid_utf8(value, field.message_type)
                if inner:
                    return f"{name}.{inner}"
    except ValueError:
        pass
    return ""


def _length_delimited(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Gives the number and bytes of each length-delimited field; raises ValueError where the bytes make no sense."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            _, at = _varint(data, at)
        elif kind in (_FIXED64, _FIXED32):
            at += 8 if kind == _FIXED64 else 4
        elif kind == _LENGTH:
            size, at = _varint(data, at)
            if at + size > len(data):
                raise ValueError("cut short")
            yield number, data[at : at + size]
            at += size
        else:
            raise ValueError("unknown wire type")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 64:  # noqa: PLR2004 - a varint has at most 64 bits
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:  # noqa: PLR2004 - the high bit says that more follow
            return value, at
        shift += 7
    raise ValueError("cut short")


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
