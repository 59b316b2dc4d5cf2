"""What every service's `__main__` does around its own composition: settings errors as one line, and a clean exit."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from services.common.config import ConfigError
from services.common.errors import MycelError
from services.common.logs import configure_logging
from services.common.server import ListenError
from services.common.settings import SettingsError
from services.common.telemetry import Telemetry, telemetry


def run_service(name: str, serve: Callable[[Telemetry], Coroutine[Any, Any, None]]) -> None:
    """Runs a service until it is asked to stop.

    A wrong setting, a taken address or a missing file ends the process with one line and exit code 2.

    Args:
        name: the service's name, such as `cache`; its spans' `service.name` is `mycel-cache`.
        serve: reads the settings, serves, and returns when the process is asked to stop.
    """
    configure_logging(name)
    try:
        with telemetry(f"mycel-{name}") as tracing:
            asyncio.run(serve(tracing))
    except (ConfigError, SettingsError, ListenError, MycelError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
