"""How the commands find a mesh and talk to it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc

from services.common.channels import open_channel
from services.common.settings import home, secret
from services.common.status import from_rpc_error
from services.common.telemetry import Telemetry
from services.mesh.supervisor.settings import DEFAULT_INGRESS
from services.mesh.supervisor.state import RunState, read_state

DEVELOPMENT_KEY = "mycel-dev"
"""The key that a mesh without tenants accepts on loopback."""


class CommandError(Exception):
    """A command cannot do what it was asked; the message is one line for a person."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, and where."""

    ingress: str
    """`host:port`."""
    key: str

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Gives the metadata that every call carries."""
        return (("authorization", f"Bearer {self.key}"),)

    def __repr__(self) -> str:
        return f"Caller(ingress={self.ingress!r})"


def caller() -> Caller:
    """Gives the caller by MYCEL_INGRESS (else the mesh that runs on the state folder) and MYCEL_API_KEY.

    Raises:
        SettingsError: the file with the key cannot be read.
    """
    running = read_state(home())
    ingress = os.environ.get("MYCEL_INGRESS") or (running.ingress if running else DEFAULT_INGRESS)
    key = secret("MYCEL_API_KEY")
    return Caller(ingress, key.get_secret_value() if key else DEVELOPMENT_KEY)


def running_mesh() -> RunState:
    """Gives the mesh that runs on the state folder.

    Raises:
        CommandError: none does.
    """
    state = read_state(home())
    if state is None or not state.socket("control").exists():
        raise CommandError(f"no mesh runs on the state in {home()}: start one with `mycel up`, or set MYCEL_HOME")
    return state


@asynccontextmanager
async def ingress_channel(who: Caller) -> AsyncIterator[grpc.aio.Channel]:
    """Opens a channel to the ingress, untraced: the trace begins at Envoy."""
    async with open_channel(who.ingress, Telemetry.disabled()) as channel:
        yield channel


def explain(error: grpc.aio.AioRpcError, ingress: str) -> str:
    """Gives an error of a call as one line: the reason, the message, which names the field."""
    details = error.details() or ""
    if error.code() is grpc.StatusCode.UNAVAILABLE and "failed to connect" in details.lower():
        return f"nothing answers at {ingress}: start the mesh with `mycel up`, or set MYCEL_INGRESS"
    told = from_rpc_error(error, "mesh")
    return f"{told.reason_name}: {' '.join(told.message.split())}"
