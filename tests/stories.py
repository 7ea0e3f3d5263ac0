"""Stories: what happens to runs, in the order and shape that the deciders write it."""

from collections.abc import Iterator
from hashlib import sha256
from random import Random
from typing import Final, Literal

import msgspec

from events.agent import (
    AgentRequested,
    AgentSucceeded,
    FromBrief,
    ModelFailed,
    ModelRequested,
    ModelResponded,
    Text,
    ToolUse,
)
from events.dead_letter import DeadLetterPurged, DeadLetterRecorded, DeadLetterReplayed, letter_address
from events.fact import Artifact, Changes, File, Finding, Usage, Verdict
from events.ids import derive
from events.plan import Gate, Plan, PlanStep
from events.run import (
    GateFailed,
    GatePassed,
    GateReopened,
    GateWaived,
    Parent,
    PlanAccepted,
    Role,
    RunCanceled,
    RunCancelRequested,
    RunChildEnded,
    RunChildRequested,
    RunFailed,
    RunRequested,
    RunStarted,
    RunSucceeded,
    RunTimedOut,
    StepCanceled,
    StepConflicted,
    StepFailed,
    StepGivenUp,
    StepReopened,
    StepStarted,
    StepSucceeded,
    StepTimedOut,
    TimerSet,
    ToolSpec,
)
from events.subjects import Address
from events.tool import (
    ApprovalDecided,
    ApprovalExpired,
    ApprovalRequested,
    Decision,
    ToolCanceled,
    ToolCompleted,
    ToolFailed,
    ToolRequested,
    ToolStarted,
)
from tests.history import History

Kind = Literal["tool_call", "question", "gate", "step", "check"]
Asked = Literal["tool_call", "question", "gate", "step"]
Next = Literal["", "retry", "fallback", "ask", "degrade", "fail", "stop"]
MODEL: Final = "scripted-1"
USED = Usage(input_tokens=100, output_tokens=20, cache_read_tokens=5, cost_micros=42, model_calls=1)
PLAN = Plan(
    steps=(
        PlanStep(
            id="analyze", role="analyst", task="Say what is wanted", title="Requirements", expects=("docs/spec.md",)
        ),
        PlanStep(id="backend", role="backend", task="Write the server", needs=("analyze",), writes=("server/",)),
        PlanStep(id="frontend", role="frontend", task="Write the page", needs=("analyze",), writes=("page/",)),
        PlanStep(
            id="review",
            role="reviewer",
            task="Judge the code",
            needs=("backend", "frontend"),
            gate=Gate(rework=("backend", "frontend")),
        ),
        PlanStep(id="ship", role="manager", task="Put it up", needs=("review",)),
    )
)


def sha(text: str) -> str:
    return sha256(text.encode()).hexdigest()


class Story:
    """One run told step by step; every method appends what the engine would."""

    def __init__(self, history: History, *, plan: Plan | None = PLAN, goal: str = "Build a small app") -> None:
        self.history = history
        self.attempts: dict[str, int] = {}
        self.calls = 0
        roles = {
            name: Role(definition=sha(name), tools=("write_file",), model=MODEL) for name in ("backend", "planner")
        }
        tools = {"write_file": ToolSpec(effect="idempotent", writes=True)}
        history.run(
            RunRequested(
                goal=goal,
                roles=roles,
                tools=tools,
                model=MODEL,
                blueprint="software" if plan else "",
                plan=plan,
                labels={"team": "blue"},
                by="ann",
            ),
            to="run",
        )

    def id_of(self, key: str) -> str:
        return derive("stp", 0, self.history.address.run, key)

    def actor_of(self, key: str) -> str:
        attempt = self.attempts[key]
        return self.id_of(key) if attempt == 1 else f"{self.id_of(key)}-{attempt}"

    def start(self) -> None:
        self.history.run(RunStarted())
        self.history.run(TimerSet(timer="tmr_1", at=self.history.now_ms + 60_000, purpose="watch"))

    def begin(
        self,
        key: str,
        role: str = "backend",
        *,
        findings: tuple[Finding, ...] = (),
        attempts_max: int = 0,
        fallback: bool = False,
    ) -> str:
        """Start an attempt and let its agent be asked for; return the attempt's place."""
        self.attempts[key] = attempt = self.attempts.get(key, 0) + 1
        actor = self.actor_of(key)
        step = self.id_of(key)
        started = StepStarted(
            step=step,
            key=key,
            role=role,
            attempt=attempt,
            actor=actor,
            findings=findings,
            attempts_max=attempts_max,
            fallback=fallback,
        )
        self.history.run(started)
        self.history.agent(
            actor,
            AgentRequested(
                step=step,
                key=key,
                role=role,
                attempt=attempt,
                brief="Do it",
                definition=sha(role),
                model=MODEL,
                tools={},
            ),
            to=f"start-{role}",
        )
        return actor

    def tick(self, key: str, turn: int, *, text: str = "done", calls: int = 1) -> list[str]:
        """One model call that asks for tools, and their calls, all completed; return the calls' ids."""
        made = self.turn(key, turn, calls=calls)
        for call in made:
            self.complete(key, call, text)
        return made

    def turn(self, key: str, turn: int, *, calls: int = 1) -> list[str]:
        """One model call that asks for tools, which are requested."""
        actor = self.actor_of(key)
        made = [self._new_call() for _ in range(calls)]
        uses = tuple(
            ToolUse(id=f"toolu_{call}", name="write_file", arguments=msgspec.Raw(b'{"path":"a.py"}'), call=call)
            for call in made
        )
        self.history.agent(actor, ModelRequested(turn=turn, takes=(FromBrief(),)))
        self.history.agent(
            actor,
            ModelResponded(
                turn=turn, epoch=1, content=(Text("I write."), *uses), stop="tool_use", model=MODEL, usage=USED
            ),
        )
        for call in made:
            self._request(key, call, kind="tool_call", tool="write_file")
        return made

    def _new_call(self) -> str:
        self.calls += 1
        return derive("call", 0, self.history.address.run, self.calls)

    def _request(self, key: str, call: str, *, kind: Kind, tool: str, at: str | None = None) -> None:
        fact = ToolRequested(
            tool=tool,
            arguments=msgspec.Raw(b'{"path":"a.py","text":"print(1)"}'),
            effect="idempotent",
            owner="agent-backend",
            key=key,
            role="backend",
            kind=kind,
        )
        self.history.call(at or self.actor_of(key), call, fact, to="tool-local")

    def complete(self, key: str, call: str, text: str = "done", *, at: str | None = None) -> None:
        self.history.call(at or self.actor_of(key), call, ToolCompleted(epoch=1, text=text, duration_ms=12))

    def fail_model(self, key: str, turn: int) -> None:
        self.history.agent(self.actor_of(key), ModelFailed(turn=turn, epoch=1, code="overloaded", reason="529"))

    def ask(self, key: str, *, kind: Asked = "tool_call", call: str | None = None, at: str | None = None) -> str:
        """Ask a human; return the call that waits."""
        waiting = call or self._new_call()
        place = at or self.actor_of(key)
        self._request(key, waiting, kind=kind, tool="deploy", at=place)
        fact = ApprovalRequested(
            approval=approval_of(waiting),
            kind=kind,
            tool="deploy",
            arguments=msgspec.Raw(b'{"where":"prod"}'),
            digest=sha(waiting),
            allowed=("approve", "respond" if kind in ("gate", "step") else "edit", "reject"),
            risk="high",
            key=key,
            role="backend",
        )
        self.history.call(place, waiting, fact)
        return waiting

    def decide(self, key: str, call: str, decision: Decision = "approve", *, at: str | None = None) -> None:
        fact = ApprovalDecided(approval=approval_of(call), decision=decision, by="bob", comment="fine")
        if decision == "edit":
            fact = msgspec.structs.replace(fact, arguments=msgspec.Raw(b'{"where":"test"}'))
        place = at or self.actor_of(key)
        self.history.call(place, call, fact)
        if decision == "reject":
            self.history.call(place, call, ToolFailed(epoch=0, code="rejected", reason="bob said no"))
        else:
            self.history.call(place, call, ToolStarted(epoch=1))
            self.complete(key, call, at=at)

    def expire(self, key: str, call: str) -> None:
        self.history.call(self.actor_of(key), call, ApprovalExpired(approval=approval_of(call)))
        self.history.call(self.actor_of(key), call, ToolFailed(epoch=0, code="expired", reason="nobody decided"))

    def succeed(
        self, key: str, *, files: dict[str, str | None] | None = None, artifacts: dict[str, str] | None = None
    ) -> None:
        """End an attempt well: paths with their new text (None: removed), and artifacts by name with theirs."""
        changes: Changes = {
            path: (None, None if text is None else File(sha(text), 0o644, len(text)))
            for path, text in (files or {}).items()
        }
        published = tuple(
            Artifact(name=name, media_type="text/markdown", sha=sha(text), size=len(text), title=name.title())
            for name, text in (artifacts or {}).items()
        )
        summary = f"{key} is done"
        end = self.history.agent(
            self.actor_of(key),
            AgentSucceeded(summary=summary, changes=changes, artifacts=published, turns=1, usage=USED),
        )
        self.history.run(
            StepSucceeded(
                step=self.id_of(key),
                key=key,
                attempt=self.attempts[key],
                seq=end.seq,
                summary=summary,
                changes=changes,
                artifacts=published,
                usage=USED,
            )
        )

    def fail(self, key: str, *, final: bool = False, next_: Next = "", retry_ms: int = 0) -> str:
        """Let an attempt fail, to be tried again after `retry_ms`; return the call that asks, if a human is asked."""
        ask = self._new_call() if next_ == "ask" else ""
        self.history.run(
            StepFailed(
                step=self.id_of(key),
                key=key,
                attempt=self.attempts[key],
                seq=1,
                code="turns",
                reason="too many",
                final=final,
                next=next_,
                retry_at=self.history.now_ms + retry_ms if retry_ms else 0,
                ask=ask,
            )
        )
        return self.ask(key, kind="step", call=ask, at="-") if ask else ""

    def time_out(self, key: str) -> None:
        self.history.run(StepTimedOut(step=self.id_of(key), key=key, attempt=self.attempts[key], seconds=30.0))

    def give_up(self, key: str, *, by: str = "") -> None:
        attempt = self.attempts[key]
        self.history.run(
            StepGivenUp(step=self.id_of(key), key=key, attempt=attempt, code="turns", reason="too many", by=by)
        )

    def reopen_step(self, key: str) -> None:
        self.history.run(StepReopened(step=self.id_of(key), key=key, by="bob", comment="once more"))

    def bury(self, key: str) -> Address:
        """Record the dead letter of a step; every other one is replayed or purged too, and some of these die again."""
        run = self.history.address
        at = letter_address(run.workspace, "step", run.run, key)
        letter = DeadLetterRecorded(
            source="step", code="turns", reason="too many", run=run.run, key=key, step=self.actor_of(key), attempts=3
        )
        self.history.put(at, letter)
        number = int(run.run.rpartition("_")[2])
        if number % 2:
            close = DeadLetterPurged(by="ann") if number % 3 else DeadLetterReplayed(by="ann", way="sent", made=("x",))
            self.history.put(at, close)
            if number % 4 == 1:
                self.history.put(at, letter)
        return at

    def conflict(self, key: str, *paths: str) -> None:
        self.history.run(
            StepConflicted(step=self.id_of(key), key=key, attempt=self.attempts[key], seq=1, paths=paths, usage=USED)
        )

    def cancel_step(self, key: str) -> None:
        self.history.run(StepCanceled(step=self.id_of(key), key=key, attempt=self.attempts[key], seq=1))

    def pass_gate(self, key: str, *, artifacts: dict[str, str] | None = None) -> None:
        published = tuple(
            Artifact(name=name, media_type="text/markdown", sha=sha(text), size=len(text))
            for name, text in (artifacts or {}).items()
        )
        verdict = Verdict(passed=True, summary="good")
        self.history.run(
            GatePassed(
                step=self.id_of(key), key=key, attempt=self.attempts[key], seq=1, verdict=verdict, artifacts=published
            )
        )

    def fail_gate(self, key: str, *rework: str, ask: str = "") -> None:
        findings = tuple(Finding(step=name, message="off by one", path="server/app.py", line=3) for name in rework)
        verdict = Verdict(passed=False, summary="not yet", findings=findings)
        self.history.run(
            GateFailed(
                step=self.id_of(key),
                key=key,
                attempt=self.attempts[key],
                seq=1,
                round=self.attempts[key],
                verdict=verdict,
                rework=rework,
                ask=ask,
            )
        )

    def escalate(self, key: str, *rework: str) -> str:
        """Fail a gate for the last time and ask a human; return the call that asks."""
        call = self._new_call()
        self.fail_gate(key, *rework, ask=call)
        return self.ask(key, kind="gate", call=call, at="-")

    def waive(self, key: str) -> None:
        self.history.run(GateWaived(step=self.id_of(key), key=key, by="bob", comment="let it be"))

    def reopen(self, key: str, *rework: str) -> None:
        self.history.run(GateReopened(step=self.id_of(key), key=key, by="bob", comment="once more", rework=rework))

    def plan(self, plan: Plan = PLAN) -> None:
        """The planner's plan is accepted."""
        step = self.id_of("planner")
        self.history.run(PlanAccepted(plan=plan, step=step, attempt=self.attempts["planner"], seq=1, usage=USED))

    def spawn(self, key: str, *, wait: bool = True) -> str:
        """Want a run under this one for a call of a step; return its id."""
        call = self._new_call()
        child = f"run_{call.removeprefix('call_')}"
        parent = Parent(run=self.history.address.run, depth=1, step=self.actor_of(key), call=call)
        request = RunRequested(goal="the rest", roles={}, tools={}, model=MODEL, parent=parent)
        self.history.run(
            RunChildRequested(child=child, request=request, step=parent.step, call=call, wait=wait), to="run"
        )
        return child

    def child_ended(self, child: str, status: str = "succeeded") -> None:
        self.history.run(RunChildEnded(child=child, seq=1, status=status, summary="the rest is done", usage=USED))

    def cancel(self) -> None:
        self.history.run(RunCancelRequested(by="ann", reason="changed my mind"), to="run")

    def canceled(self) -> None:
        self.history.run(RunCanceled(by="ann", reason="changed my mind"))

    def cancel_call(self, key: str, call: str) -> None:
        self.history.call(self.actor_of(key), call, ToolCanceled(by="ann"))

    def succeeded(self, *without: str) -> None:
        self.history.run(RunSucceeded(summary="all done", degraded=bool(without), given_up=without))

    def timed_out(self) -> None:
        self.history.run(RunTimedOut(reason="not done within its run_seconds, 60"))

    def failed(self, key: str) -> None:
        self.history.run(RunFailed(code="turns", reason="too many", step=key))


def approval_of(call: str) -> str:
    return f"apr_{call.removeprefix('call_')}"


def told(story: Story, chance: Random) -> Iterator[None]:
    """Tell one run to some end, a little at each turn, so that several can be told at once."""
    yield
    story.start()
    yield
    for key, text in (("analyze", "spec"), ("backend", "server"), ("frontend", "page")):
        story.begin(key, key)
        for turn in range(1, chance.randint(2, 5)):
            if chance.random() < 0.1:
                story.fail_model(key, turn)
            story.tick(key, turn, text=text * chance.randint(1, 40), calls=chance.randint(1, 3))
            yield
        story.succeed(key, files={f"{key}/a.py": text, "shared.txt": text}, artifacts={f"docs/{key}.md": text})
        yield
    for number in range(chance.randint(0, 2)):
        story.begin("review", "reviewer")
        story.tick("review", 1)
        yield
        story.fail_gate("review", "backend")
        yield
        story.begin("backend", "backend")
        story.tick("backend", 1)
        story.succeed(
            "backend",
            files={"backend/a.py": f"fix {number}", "shared.txt": None},
            artifacts={"docs/backend.md": "server"},
        )
        yield
    story.begin("review", "reviewer")
    yield from chance.choice((_ships, _is_canceled, _fails, _escalates, _is_degraded, _takes_too_long))(story)


def _ships(story: Story) -> Iterator[None]:
    story.pass_gate("review", artifacts={"docs/review.md": "good"})
    story.begin("ship", "manager")
    story.turn("ship", 1, calls=0)
    call = story.ask("ship")
    yield
    story.decide("ship", call)
    yield
    child = story.spawn("ship")
    yield
    story.child_ended(child)
    story.succeed("ship")
    story.succeeded()


def _is_canceled(story: Story) -> Iterator[None]:
    story.turn("review", 1, calls=0)
    call = story.ask("review", kind="question")
    yield
    story.cancel()
    yield
    story.cancel_call("review", call)
    story.cancel_step("review")
    story.canceled()


def _fails(story: Story) -> Iterator[None]:
    story.turn("review", 1, calls=0)
    call = story.ask("review")
    yield
    story.expire("review", call)
    yield
    story.fail("review", final=True)
    story.failed("review")
    story.bury("review")


def _is_degraded(story: Story) -> Iterator[None]:
    story.fail("review", next_="retry", retry_ms=1_000)
    yield
    story.begin("review", "reviewer")
    call = story.fail("review", next_="ask")
    yield
    story.decide("review", call, at="-")
    story.give_up("review", by="bob")
    story.begin("ship", "manager")
    yield
    story.succeed("ship")
    story.succeeded("review")


def _takes_too_long(story: Story) -> Iterator[None]:
    story.time_out("review")
    yield
    story.fail("review", next_="fallback")
    story.begin("review", "manager")
    yield
    story.history.run(RunCancelRequested(by="its deadline", reason="too long", timed_out=True), to="run")
    story.cancel_step("review")
    story.timed_out()


def _escalates(story: Story) -> Iterator[None]:
    call = story.escalate("review", "backend", "frontend")
    yield
    story.decide("review", call, at="-")
    story.waive("review")


def many(runs: int, seed: int = 1, *, workspaces: tuple[str, ...] = ("default", "other")) -> History:
    """Return a log of several runs, told side by side in an order that `seed` gives."""
    chance = Random(seed)
    first = History("run_0", workspaces[0])
    going = [
        told(
            Story(first if number == 0 else first.beside(f"run_{number}", workspaces[number % len(workspaces)])), chance
        )
        for number in range(runs)
    ]
    while going:
        one = chance.choice(going)
        if next(one, "over") == "over":
            going.remove(one)
    return first
