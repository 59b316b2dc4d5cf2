"""Ends the stub process when its server is gone.

Triton's stub notices a dead server only between calls, and while answers are generated there is none: a killed server
would leave its stubs behind, with the model in memory. A thread that looks at the parent is not enough, because a reply
to a dead server blocks with the interpreter's lock held, and then no Python thread runs. So the thread keeps winding up
an alarm of `faulthandler`, which needs no lock and ends the process when it is not wound up any more.
"""

from __future__ import annotations

import faulthandler
import os
import threading
import time

_PERIOD_SECONDS = 0.5
_ALARM_SECONDS = 15.0


def exit_with_parent() -> None:
    """Exits soon after the process that started this one is gone, whatever the interpreter is stuck in."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            faulthandler.dump_traceback_later(_ALARM_SECONDS, exit=True)
            time.sleep(_PERIOD_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()
