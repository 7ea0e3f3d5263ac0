"""The simulation is audited: each of these changes takes one thing away that keeps a promise, and some schedule must break it.

`make mutants` says for each which schedule killed it; `killers.txt` keeps them, and they are tried first.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Final

import msgspec


class Mutant(msgspec.Struct, frozen=True):
    """A change to the text of a module; `old` stands in it exactly once."""

    name: str
    module: str
    old: str
    new: str


class Stale(Exception):
    """A mutant's text is not, or not once, in its module: the code has moved on, and the mutant must too."""


MUTANTS: Final = (
    # the log and its append
    Mutant("no fence", "events.jetstream.append", "    headers[EXPECTED] = str(expected)\n", ""),
    Mutant(
        "an answer that was lost is a conflict",
        "events.jetstream.append",
        "if stored.msg.headers.get(envelope.ID) == entry.id:",
        "if False:",
    ),
    Mutant("a conflict is not read on from", "actors.turn", "await self.box.recover(conflict)", "pass"),
    # commands and turns
    Mutant("commands are not told apart", "actors.turn", "if command.id in self.box.seen.commands:", "if False:"),
    Mutant(
        "T2: what is asked of others gets no ticket",
        "actors.turn",
        "audience(to) == audience(self.to) and self.ours()",
        "self.ours()",
    ),
    Mutant("T2: anybody performs", "actors.turn", "and one.ticket == self.notice)", ")"),
    Mutant(
        "T2: takeover without epoch",
        "actors.work",
        "            if begun:\n                await turn.decide(turn.take_over())\n",
        "",
    ),
    Mutant(
        "T2: what another began is not looked at",
        "actors.work",
        "and (delivery.delivered > 1 or request.begun)",
        "and delivery.delivered > 1",
    ),
    # T1
    Mutant(
        "T1: a late replica is believed",
        "actors.mailbox",
        "            if self.position < upto:\n",
        "            return\n            if False:\n",
    ),
    Mutant(
        "T1: a command asks a replica",
        "actors.mailbox",
        "await self.read_to(await self.facts.last(self.address.scope))",
        "await self.read_to(getattr(await self.facts.peek(self.address.scope), 'seq', 0))",
    ),
    Mutant(
        "T1: its calls write beside an agent, unread",
        "actors.mailbox",
        "        if not isinstance(state, AgentState):\n",
        "        if True:\n",
    ),
    # T3
    Mutant(
        "T3: ack before append",
        "actors.work",
        "            again = delivery",
        "            await held.settle()\n            again = delivery",
    ),
    Mutant("T3: a zombie acks", "actors.held", "        if not self.late:\n", "        if True:\n"),
    Mutant("T3: hand-overs are not made again", "actors.work", "everything=again or not news", "everything=False"),
    Mutant(
        "T3: a command is acked before it is done",
        "actors.work",
        "        answer: dict[str, Any] = {}\n",
        "        answer: dict[str, Any] = {}\n        await held.settle()\n",
    ),
    # T4
    Mutant(
        "T4: results are brought without the mailbox",
        "actors.work",
        "            async with box.turn:\n                # Its append",
        "            if True:\n                # Its append",
    ),
    # T5
    Mutant("T5: no word while at work", "actors.held", "await held.delivery.progress()", "pass"),
    Mutant("T5: what nobody wants goes on", "actors.held", "        effect.cancel()\n", "        pass\n"),
    # T6
    Mutant("T6: the watch is not set again", "actors.run", "return [_watch(state, interval, command)]", "return []"),
    Mutant("T6: no watch", "actors.run", "        return [_watch(state, WATCH_MS, command)]\n", "        pass\n"),
    Mutant(
        "T6: nudges are ignored",
        "actors.agent",
        "            return _nudged(state, state.request, command)\n",
        "            return []\n",
    ),
    Mutant(
        "T6: nobody is nudged",
        "actors.work",
        'await self.engine.inbox.send(address, "nudge", body, command_id=id_)',
        "pass",
    ),
    # T7
    Mutant(
        "T7: nobody is asked whether he is there",
        "actors.work",
        "        asked = 0\n        while asked < 2:\n",
        "        asked = 2\n        while asked < 2:\n",
    ),
    Mutant(
        "T7: what is in hand is begun again",
        "actors.runtime",
        "if (held := self.beat.held.get(key)) is not None:",
        "if False:",
    ),
    # the run
    Mutant(
        "merge without a look at conflicts",
        "actors.run_results",
        "    if isinstance(result, Conflict):\n",
        "    if False:\n",
    ),
    Mutant(
        "a result counts twice",
        "actors.run_results",
        'if step is None or step.status != "open":\n        return []\n    stopping',
        "if step is None:\n        return []\n    stopping",
    ),
    # the agent
    Mutant(
        "the agent goes on with calls open",
        "actors.agent",
        "    if state.unfinished_calls():\n        return ask_for_calls(state)\n",
        "",
    ),
    Mutant("pending forgets calls", "actors.agent_calls", "            chosen.append(call)\n", "            pass\n"),
    Mutant(
        "a canceled agent goes on",
        "actors.agent",
        "    if state.cancel is not None:\n        done",
        "    if False:\n        done",
    ),
    Mutant("an answer of an old epoch is taken", "actors.agent_model", "if asked.epoch != epoch:", "if False:"),
    # the tool call
    Mutant("a stale outcome is taken", "actors.tool_outcome", "if epoch != state.epoch:", "if False:"),
    Mutant(
        "a second outcome is taken",
        "actors.tool_outcome",
        "    if state.end is not None:\n        return [] if _brought",
        "    if False:\n        return [] if _brought",
    ),
    Mutant(
        "an unsafe call is done again",
        "actors.tool",
        'if request.effect == "unsafe" and state.begun and not performs:',
        "if False:",
    ),
    Mutant(
        "an effect before its start is stored",
        "actors.tool_state",
        "return self.request is not None and self.request.effect in FENCED_EFFECTS",
        "return False",
    ),
    Mutant("no approval is asked for", "actors.tool_approval", "return request.approval or", "return"),
    Mutant("approve after cancel", "actors.tool_approval", "    if state.end is not None:\n", "    if False:\n"),
    Mutant(
        "a second decision is taken",
        "actors.tool_approval",
        "    if decision is not None:\n        if (",
        "    if False:\n        if (",
    ),
    Mutant("an edit is ignored", "actors.tool_state", 'decision is not None and decision.decision == "edit"', "False"),
    # runs under runs
    Mutant(
        "a run's end is not told to the run above",
        "actors.run_children",
        "    if parent is None or state.end is None:\n        return []",
        "    return []",
    ),
    Mutant(
        "the call that waits for a run is not told",
        "actors.run_children",
        "if child.ended and child",
        "if False and child",
    ),
    Mutant(
        "a cancel does not go down",
        "actors.run",
        "    return [*agents, *asked, *(address_of(state, child) for child in state.open_children())]",
        "    return [*agents, *asked]",
    ),
    # budgets
    Mutant(
        "slices do not count as reserved",
        "actors.purse",
        "return sum((budget.reserved(grant) for grant in self.holds.values()), self.used)",
        "return self.used",
    ),
    Mutant(
        "a workspace does not count what runs claimed",
        "actors.workspace_budget",
        "return sum((budget.reserved(grant) for grant in self.holds.values()), NOTHING)",
        "return NOTHING",
    ),
    Mutant(
        "what a run claimed is not handed back",
        "actors.run_claims",
        "    if purse is None or not purse.claim_seq:\n",
        "    if True:\n",
    ),
    Mutant(
        "a lost call is not charged",
        "actors.agent_budget",
        "            return _again(state, grant, fact, now_ms)",
        "            return fact",
    ),
    # retries and time
    Mutant(
        "a step's attempts are not counted",
        "actors.run_retry",
        "if not final and step.failures + 1 < attempts_max(request, step):",
        "if not final:",
    ),
    Mutant(
        "no timer for a backoff",
        "actors.run_retry",
        "found.append(Schedule(asked=step.failed_seq, timer=retry_timer(step), at_ms=step.retry_at))",
        "pass",
    ),
    Mutant(
        "no timer for an attempt's time",
        "actors.run_retry",
        'found.append(Schedule(asked=step.deadline_seq, timer=f"{DUE}{step.actor}", at_ms=step.deadline))',
        "pass",
    ),
    Mutant(
        "a run's time is never over",
        "actors.run_retry",
        "state.paused is not None or state.request is None or not over:",
        "True:",
    ),
    Mutant(
        "a timer is not believed",
        "actors.decider",
        "return at_ms > 0 and (fired or command.now_ms >= at_ms)",
        "return at_ms > 0 and command.now_ms >= at_ms",
    ),
    # dead letters, and a log that is nearly full
    Mutant(
        "a letter is recorded twice",
        "actors.dead_letter",
        "return [letter] if state.letter is None or again else []",
        "return [letter]",
    ),
    Mutant(
        "a replay begins twice",
        "gateway.dead_letters",
        'new = derive("run", at.requested_ms, run, at.seen.last)',
        'new = self.system.clock.new_id("run")',
    ),
    Mutant(
        "what nobody can work on is acked and not kept",
        "actors.work",
        "letter = await self.letters.of_junk(delivery, code, reason)",
        'letter = ""',
    ),
    Mutant(
        "a full log takes new work",
        "events.jetstream.room",
        "(self.used >= NEW_WORK_UP_TO and name in NEW_WORK)",
        "False",
    ),
)
OPEN: Final = (
    Mutant(
        "T3: a refused result goes on",
        "actors.work",
        "    return any(isinstance(one.fact, ModelRefused | ToolRefused) for one in turn.appended)",
        "    return False",
    ),
    Mutant(
        "T2: a late message is still a ticket", "actors.turn", "audience(self.to) and self.ours()", "audience(self.to)"
    ),
    Mutant(
        "T1: a ticket that comes again is read up to itself only",
        "actors.work",
        "        if not again and (record.address",
        "        if (record.address",
    ),
    Mutant(
        "a second answer is taken",
        "actors.agent_model",
        "if asked is None or asked.turn != turn or asked.failed_seq:",
        "if asked is None:",
    ),
    Mutant(
        "who begins late does not ask how its run stands",
        "actors.work",
        "for missed in await standing(self.engine, record):",
        "for missed in ():",
    ),
)
"""No schedule is known yet that notices these: they are played by name only."""


def source(mutant: Mutant) -> str:
    """Return the mutated text of the module. Raises Stale."""
    spec = find_spec(mutant.module)
    assert spec is not None
    assert spec.origin is not None
    text = Path(spec.origin).read_text()
    if text.count(mutant.old) != 1:
        raise Stale(f"{mutant.name}: its text stands {text.count(mutant.old)} times in {mutant.module}")
    return text.replace(mutant.old, mutant.new)
