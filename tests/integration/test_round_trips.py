"""What a tick asks of the log: each round trip is latency for one run and work for the server for all of them."""

from collections import Counter
from pathlib import Path

from events.jetstream.connection import Msg
from tests.integration.engine import Rig, cassette, rig, say, step, turns

READS = ("$JS.API.DIRECT.GET.CALLBOARD", "$JS.API.STREAM.MSG.GET.CALLBOARD")
FACTS = "cb.*.evt.>"


async def asked(one: Rig, key: str) -> Counter[str]:
    """Run a step to its end, and count what was sent to the log meanwhile: reads by verb, appends."""
    bus = one.systems[0].bus
    found: Counter[str] = Counter()

    def note(msg: Msg) -> None:
        found[msg.subject if msg.subject in READS else FACTS] += 1

    subscriptions = [await bus.subscribe(subject, note) for subject in (*READS, FACTS)]
    await one.end(await one.start(step(key)))
    for subscription in subscriptions:
        await subscription.unsubscribe()
    return found


async def test_a_tick_is_four_appends_and_one_read_by_the_agent(nats_url: str, tmp_path: Path) -> None:
    tick = [say("list_files")]
    script = cassette(warm=turns(tick), short=turns(*[tick] * 2), long=turns(*[tick] * 12))
    async with rig(nats_url, tmp_path, script) as one:
        await asked(one, "warm")
        short, long = await asked(one, "short"), await asked(one, "long")
    more = {subject: long[subject] - short[subject] for subject in long}
    assert more.pop(FACTS) == 10 * 4
    assert more == {READS[0]: 10, READS[1]: 0}, more
