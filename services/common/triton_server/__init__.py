"""How a tritonserver is started: its runtime, its backends, its model repository, its command.

Shared by the local supervisor, the container entry point and the tests, so that all three start
the same server. Nothing here starts a process.
"""

from services.common.triton_server.command import TritonPorts, TritonServerOptions, server_command
from services.common.triton_server.configured import configured_models
from services.common.triton_server.repository import (
    LlamaModel,
    default_threads,
    write_backends,
    write_model_repository,
)
from services.common.triton_server.runtime import TritonRuntime, TritonSetupError
from services.common.triton_server.shared_memory import remove_shared_memory

__all__ = [
    "LlamaModel",
    "TritonPorts",
    "TritonRuntime",
    "TritonServerOptions",
    "TritonSetupError",
    "configured_models",
    "default_threads",
    "remove_shared_memory",
    "server_command",
    "write_backends",
    "write_model_repository",
]
