"""A run as a file, to be kept, carried elsewhere, or folded through another version."""

from typing import Final

import msgspec
from litestar.types import ASGIApp

from gateway.export import MEDIA_TYPE, export
from gateway.gateway import Gateway
from gateway.reply import StreamReply
from gateway.route import Caller, route


class ExportOfRun(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A run's id."""

    id: str


async def export_run(gateway: Gateway, caller: Caller, asked: ExportOfRun) -> ASGIApp:
    """All facts of a run as lines of JSON behind a line that says what it is, as the log has them now."""
    address = await gateway.reads.exists(caller.workspace, asked.id)
    system = gateway.system
    return StreamReply(
        export(system.facts, address, engine=system.engine.name),
        media_type=MEDIA_TYPE,
        headers={"Content-Disposition": f'attachment; filename="{address.run}.jsonl"'},
        send_seconds=gateway.limits.send_seconds_max,
    )


ROUTES: Final = (route("runs.export", "GET /v1/runs/{id}/export", serve=export_run, media_type=MEDIA_TYPE),)
