"""Reading a service's settings from the environment, and secrets from the environment or files."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import SecretStr


class SettingsError(Exception):
    """A setting is missing or wrong; the message is one line that names it."""


def home() -> Path:
    """The folder that state is kept in: MYCEL_HOME, else `.mycel` in the working folder."""
    return Path(os.environ.get("MYCEL_HOME", ".mycel")).resolve()


def runtime() -> Path:
    """The folder that set-up fills (Triton's runtime, the embedding model): MYCEL_RUNTIME, else the repository's."""
    named = os.environ.get("MYCEL_RUNTIME")
    return Path(named).resolve() if named else Path(__file__).resolve().parents[2] / ".runtime"


def number(name: str, default: float, *, least: float, most: float) -> float:
    """Reads a number from the environment.

    Raises:
        SettingsError: it is not a number, or out of bounds.
    """
    text = os.environ.get(name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        raise SettingsError(f"{name}: {text!r} is not a number") from None
    if not least <= value <= most:
        raise SettingsError(f"{name}: {text} is not between {least:g} and {most:g}")
    return value


def secret(name: str) -> SecretStr | None:
    """Reads a secret from the variable `name`, or from the file that `name`_FILE names; None when neither is set.

    Raises:
        SettingsError: the file cannot be read.
    """
    value = os.environ.get(name)
    file = os.environ.get(f"{name}_FILE")
    if not value and file:
        try:
            value = Path(file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"{name}_FILE: {file}: {getattr(error, 'strerror', error)}") from error
    return SecretStr(value) if value else None
