"""The world that tools act on: a server of its own that counts effects in a file and is never disturbed.

One JSON line in, `{op, effect, kind, seconds}`; half of the seconds pass, the effect is written down, the other half pass, one line
goes back. So a caller may be cut off before its effect, or between the effect and its answer: the effect of one who is gone is
dropped or done all the same, half and half. A keyed effect whose key was seen is not done again. Asked with kind `probe` it says
whether the effect was done; one that was not is then never done. Started as `python -m tests.chaos.target PORT FILE`.
"""

import asyncio
import json
import os
import sys
import zlib
from pathlib import Path
from typing import IO, Any

HOST = "127.0.0.1"
ASKED, DONE, AGAIN, DROPPED, ANSWERED = "asked", "done", "again", "dropped", "answered"


class Target:
    """Counts effects. `ledger` is open for appending, unbuffered."""

    def __init__(self, ledger: IO[bytes]) -> None:
        self.ledger = ledger
        self.done: set[str] = set()
        self.denied: set[str] = set()
        """Effects that a probe was told were not done."""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            asked = json.loads(await reader.readline())
            said = await self.act(asked, gone=asyncio.create_task(reader.read(1)))
            writer.write(json.dumps(said).encode() + b"\n")
            await writer.drain()
            self.write(asked, ANSWERED)
        except (OSError, ValueError):
            pass  # its caller was killed
        finally:
            writer.close()

    async def act(self, asked: dict[str, Any], *, gone: asyncio.Task[bytes]) -> dict[str, Any]:
        """Do what is asked; `gone` ends when the caller is no longer there."""
        effect = str(asked["effect"])
        if asked["kind"] == "probe":
            gone.cancel()
            if effect not in self.done:
                self.denied.add(effect)
            return {"what": DONE if effect in self.done else DROPPED}
        self.write(asked, ASKED)
        await asyncio.sleep(float(asked["seconds"]) / 2)
        if effect in self.denied or (gone.done() and zlib.crc32(effect.encode()) % 2):
            what = DROPPED
        elif asked["kind"] == "keyed" and effect in self.done:
            what = AGAIN
        else:
            what = DONE
            self.done.add(effect)
        self.write(asked, what)
        await asyncio.sleep(float(asked["seconds"]) / 2)
        gone.cancel()
        return {"what": what}

    def write(self, asked: dict[str, Any], what: str) -> None:
        line = {name: asked[name] for name in ("op", "effect", "kind")} | {"what": what}
        self.ledger.write(json.dumps(line).encode() + b"\n")
        os.fsync(self.ledger.fileno())


async def serve(port: int, path: Path) -> None:
    with path.open("ab", buffering=0) as ledger:
        server = await asyncio.start_server(Target(ledger).answer, HOST, port)
        print("target_ready", flush=True)
        async with server:
            await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), Path(sys.argv[2])))
