"""Reads mesh.yaml. What is wrong in it is told with the line, the field and the reason."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import ValidationError

from services.common.config.schema import MeshConfig, MisplacedError

DEFAULT: Final = Path(__file__).with_name("default.yaml")
_FILE: Final = "mesh.yaml"


class ConfigError(Exception):
    """The configuration is wrong; the message is one line: file, line, field, reason."""


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A configuration and where it came from."""

    mesh: MeshConfig
    path: Path
    """The file; the default one when there is no mesh.yaml."""

    @property
    def is_default(self) -> bool:
        return self.path == DEFAULT


def config_path() -> Path:
    """Finds the file that applies: MYCEL_CONFIG, else `mesh.yaml` in the working folder, else the default one."""
    named = os.environ.get("MYCEL_CONFIG")
    if named:
        return Path(named)
    local = Path(_FILE)
    return local.resolve() if local.is_file() else DEFAULT


def load_config(path: Path | None = None) -> LoadedConfig:
    """Reads and checks a configuration file.

    Args:
        path: the file; None means the one that applies (see `config_path`).

    Raises:
        ConfigError: it cannot be read, or something in it is wrong.
    """
    path = path or config_path()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
        _refuse_duplicates(path, root)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{path}:{line}: not YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    except RecursionError:
        raise ConfigError(f"{path}:1: nested too deeply, or a part that contains itself") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}:1: a mapping with `providers`, `models` and `routes` is needed")
    return LoadedConfig(_validate(path, values, root), path.resolve())


def _validate(path: Path, values: dict[str, Any], root: yaml.Node | None) -> MeshConfig:
    try:
        return MeshConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        location: tuple[str | int, ...] = first["loc"]
        cause = first.get("ctx", {}).get("error")
        if isinstance(cause, MisplacedError):
            location = cause.location
        reason = str(cause) if cause is not None else first["msg"]
        if first["type"] == "extra_forbidden":
            reason = "no such field"
        field = _dotted(location)
        raise ConfigError(f"{path}:{_line(root, location)}: {field}: {reason}") from None


def _dotted(location: tuple[str | int, ...]) -> str:
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in location if part != "[key]"]
    return "".join(parts).removeprefix(".") or "the file"


def _line(root: yaml.Node | None, location: tuple[str | int, ...]) -> int:
    """Finds the line of a value, or of the nearest part that stands in the file."""
    node, line = root, 1
    for part in location:
        if isinstance(node, yaml.MappingNode):
            found = next((pair for pair in node.value if pair[0].value == str(part)), None)
            if found is None:
                break
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return line


def _refuse_duplicates(path: Path, node: yaml.Node | None) -> None:
    """YAML lets a later key replace an earlier one without a word; here that is a mistake."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                raise ConfigError(f"{path}:{key.start_mark.line + 1}: {key.value}: stands here twice")
            seen.add(key.value)
            _refuse_duplicates(path, value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_duplicates(path, value)
