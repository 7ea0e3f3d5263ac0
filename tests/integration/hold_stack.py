"""A process that holds an embedded stack until its standard input closes: `hold_stack.py <folder> [uvloop]`.

It prints one line of JSON once the stack is up: the addresses, and the process ids of the servers.
"""

import asyncio
import json
import sys
from pathlib import Path

import uvloop

from deploy.local import LocalStack


async def hold(folder: Path) -> None:
    async with LocalStack(folder) as stack:
        pids = [server.pid for server in stack.servers]
        said = {"nats_url": stack.nats_url, "database_url": stack.database_url, "pids": pids}
        print(json.dumps(said), flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop if "uvloop" in sys.argv else None) as runner:
        runner.run(hold(Path(sys.argv[1])))
