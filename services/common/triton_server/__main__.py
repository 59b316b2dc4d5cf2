"""Writes the model repository of the mesh.yaml that applies: `python -m services.common.triton_server FOLDER`.

Containers run it before Triton starts; `mycel up` does the same by itself.
"""

from __future__ import annotations

import sys
from pathlib import Path

from services.common.config import ConfigError, load_config
from services.common.triton_server.configured import configured_models
from services.common.triton_server.repository import write_model_repository
from services.common.triton_server.runtime import TritonSetupError


def main(arguments: list[str]) -> int:
    """Returns the exit status; what is wrong is told in one line."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m services.common.triton_server FOLDER\n")
        return 2
    try:
        loaded = load_config()
        write_model_repository(Path(arguments[0]), configured_models(loaded.mesh, loaded.path))
    except (ConfigError, TritonSetupError, OSError) as error:
        sys.stderr.write(f"triton: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
