"""A tool that takes its worker down with it, as a bug in a native library would."""

import os
import signal

from toolbox.tool import Context, tool


@tool(effect="idempotent")
async def take_down(ctx: Context) -> str:
    """Kill the worker that performs this."""
    os.kill(os.getpid(), signal.SIGKILL)
    return "never"


NAME = f"{__name__}:{take_down.name}"
