"""A blob that nobody has any more is waited for, but not for ever: then the call or the model call that needs it fails."""

from pathlib import Path

from actors.perform import BLOB_LOST, BLOB_SECONDS_MAX
from events.agent import ModelFailed
from events.clock import SystemClock
from events.plan import Retry
from events.tool import ApprovalRequested, ToolCompleted, ToolFailed
from gateway.operations import DecideApproval
from tests.integration.engine import cassette, rig, say, step, turns, types


class Hasty(SystemClock):
    """A clock on which the time that a blob is waited for is over in a second."""

    def monotonic(self) -> float:
        return super().monotonic() * BLOB_SECONDS_MAX


def lose(home: Path, sha: str) -> None:
    next(home.rglob(sha)).unlink()


async def test_a_model_call_whose_prompt_is_lost_fails_and_the_steps_policy_decides(
    nats_url: str, tmp_path: Path
) -> None:
    async with rig(nats_url, tmp_path, cassette(a=turns()), workers=0, clocks=(Hasty(),)) as one:
        run = await one.start(step("a", retry=Retry(attempts_max=1), on_failure="degrade"), degrade=True)
        request = (await one.door.run_state("default", run)).request
        assert request is not None
        lose(tmp_path, request.roles["dev"].definition)
        one.work(0)
        records = await one.end(run)
        (failed,) = [record.fact for record in records if isinstance(record.fact, ModelFailed)]
        assert (failed.code, failed.retry_at, failed.usage.model_calls) == (BLOB_LOST, 0, 0)
        assert f"also {BLOB_SECONDS_MAX:g} s later" in failed.reason
        assert "step.given_up" in types(records)


async def test_a_call_whose_file_is_lost_fails_and_its_agent_goes_on(nats_url: str, tmp_path: Path) -> None:
    write, read = say("write_file", path="a.txt", content="kept"), say("read_file", path="a.txt")
    script = cassette(a=turns([write], [say("ask_human", question="gone?")], [read]))
    async with rig(nats_url, tmp_path, script, clocks=(SystemClock(), Hasty())) as one:
        run = await one.start(step("a"))
        records = await one.until(run, lambda record: isinstance(record.fact, ApprovalRequested))
        (written,) = [record.fact.changes["a.txt"] for record in records if isinstance(record.fact, ToolCompleted)]
        assert written[1] is not None
        lose(tmp_path, written[1].sha)
        asked = records[-1].fact
        assert isinstance(asked, ApprovalRequested)
        yes = DecideApproval(decision="respond", comment="yes")
        await one.door.decide("default", asked.approval, yes, by="ann")
        records = await one.end(run)
        (failed,) = [record.fact for record in records if isinstance(record.fact, ToolFailed)]
        assert failed.code == BLOB_LOST
        assert types(records)[-1] == "run.succeeded"
