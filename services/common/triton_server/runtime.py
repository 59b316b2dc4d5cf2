"""Finds the runtime that `make setup` created for Triton."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_STAMP: Final = "runtime.json"


class TritonSetupError(Exception):
    """Triton cannot be started as asked; the message is one line that says what to do."""


@dataclass(frozen=True, slots=True)
class TritonRuntime:
    """The files of a runtime environment for Triton.

    Attributes:
        folder: The virtual environment.
        python_version: Such as `3.11`; the stub and libpython are of the same version.
        library_folder: The folder that holds libpython.
    """

    folder: Path
    python_version: str
    library_folder: Path

    @classmethod
    def locate(cls, folder: Path) -> TritonRuntime:
        """Finds the runtime in a folder, `$MYCEL_RUNTIME/triton` as a rule.

        Raises:
            TritonSetupError: There is none, or a part of it is missing.
        """
        folder = folder.absolute()
        try:
            stamp = json.loads((folder / _STAMP).read_text())
            found = cls(folder, str(stamp["python"]), Path(stamp["library_folder"]))
        except FileNotFoundError:
            raise TritonSetupError(f"no Triton runtime in {folder}: run `make setup`") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TritonSetupError(
                f"the Triton runtime in {folder} cannot be read ({error}): run `make setup`"
            ) from error
        for part in (found.server, found.stub, found.backend_library, found.libpython):
            if not part.exists():
                raise TritonSetupError(f"the Triton runtime lacks {part}: run `make setup`")
        return found

    @property
    def packages(self) -> Path:
        """The environment's site-packages."""
        return self.folder / "lib" / f"python{self.python_version}" / "site-packages"

    @property
    def server(self) -> Path:
        """The tritonserver binary."""
        return self._wheel / "bin" / "tritonserver"

    @property
    def backend_library(self) -> Path:
        """The python backend's shared library."""
        return self._wheel / "backends" / "python" / "libtriton_python.so"

    @property
    def backend_utilities(self) -> Path:
        """The Python module that the python backend gives its models."""
        return self._wheel / "backends" / "python" / "triton_python_backend_utils.py"

    @property
    def stub(self) -> Path:
        """The process that runs a Python model, built for this Python version."""
        stubs = self._wheel / "python_backend_stubs"
        return stubs / self.python_version / "triton_python_backend_stub"

    @property
    def libpython(self) -> Path:
        """The shared library that the stub loads."""
        return self.library_folder / f"libpython{self.python_version}.so.1.0"

    @property
    def library_path(self) -> str:
        """The value of LD_LIBRARY_PATH that server and stub need."""
        return f"{self.packages / 'nvidia_pytriton.libs'}:{self.library_folder}"

    @property
    def _wheel(self) -> Path:
        return self.packages / "pytriton" / "tritonserver"
