"""Every fact has its words, and nothing of a model's words reaches a terminal as it came."""

import io
from typing import Any

import msgspec
import pytest

from events.agent import (
    AgentCanceled,
    AgentCancelRequested,
    AgentChecking,
    AgentChildEnded,
    AgentFailed,
    AgentPaused,
    AgentReissued,
    AgentRequested,
    AgentResumed,
    AgentSucceeded,
    AgentTurnFailed,
    Check,
    FromCall,
    ModelFailed,
    ModelRefused,
    ModelReissued,
    ModelRequested,
    ModelResponded,
    ModelTakenOver,
    Text,
    ToolUse,
)
from events.budget import (
    Amount,
    Budget,
    BudgetAllotted,
    BudgetAsked,
    BudgetClaimed,
    BudgetExhausted,
    BudgetGranted,
    BudgetLimited,
    BudgetOverdrawn,
    BudgetQueued,
    BudgetRaised,
    BudgetReceived,
    BudgetReserved,
    BudgetReturned,
    BudgetShort,
    Grant,
)
from events.codec import TYPES, encode
from events.dead_letter import DeadLetterPurged, DeadLetterRecorded, DeadLetterReplayed
from events.door import KeyAnswered, KeyClaimed
from events.fact import Artifact, Fact, File, Finding, Usage, Verdict, type_of
from events.plan import Plan, PlanStep
from events.run import (
    GateFailed,
    GatePassed,
    GateReopened,
    GateWaived,
    PlanAccepted,
    RunCanceled,
    RunCancelRequested,
    RunChildEnded,
    RunChildRequested,
    RunFailed,
    RunPaused,
    RunRequested,
    RunResumed,
    RunStarted,
    RunSucceeded,
    RunTimedOut,
    RunTurnFailed,
    StepCanceled,
    StepConflicted,
    StepFailed,
    StepGivenUp,
    StepReopened,
    StepStarted,
    StepSucceeded,
    StepTimedOut,
    TimerSet,
)
from events.tool import (
    ApprovalDecided,
    ApprovalExpired,
    ApprovalRequested,
    ToolAttemptFailed,
    ToolCanceled,
    ToolCompleted,
    ToolFailed,
    ToolOutcomeUnknown,
    ToolRefused,
    ToolReissued,
    ToolRequested,
    ToolStarted,
    ToolTurnFailed,
    ToolWaiting,
)
from gateway.view.calls import call_words
from gateway.view.filter import readable, run
from gateway.view.say import clock
from gateway.view.words import words

USED = Usage(input_tokens=1200, output_tokens=34, cost_micros=4_200)
PLAN = Plan(steps=(PlanStep(id="a", role="r", task="t"), PlanStep(id="b", role="r", task="t", needs=("a",))))
STEP: dict[str, Any] = {"step": "stp_1", "key": "code", "attempt": 2, "seq": 9}
FINDINGS = (Finding(step="code", message="off by one"),)
ART = Artifact(name="a.md", media_type="text/markdown", sha="s", size=3)
LATER = 1_790_000_000_000

SAID: list[tuple[Fact, str]] = [
    (
        RunRequested(goal="Build\nit", roles={}, tools={}, model="scripted", blueprint="software", plan=PLAN),
        'run requested: "Build it" (blueprint software, model scripted, 2 steps)',
    ),
    (RunStarted(), "run started"),
    (PlanAccepted(plan=PLAN, step="stp_0", attempt=1, seq=3), "plan accepted: 2 steps (a, b)"),
    (
        StepStarted(step="stp_1", key="code", role="coder", attempt=2, actor="stp_1-2", findings=FINDINGS),
        "step started by coder, attempt 2, 1 finding to mend",
    ),
    (
        StepSucceeded(**STEP, summary="done", changes={"a": (None, File("s"))}, artifacts=(ART,), usage=USED),
        "step succeeded: done (1 file, 1 artifact, 1.2k in, 34 out, $0.0042)",
    ),
    (StepConflicted(**STEP, paths=("a", "b")), "step conflicted on a, b: it is tried again from what is there now"),
    (StepFailed(**STEP, code="turns", reason="too many"), "step failed, and is tried again: turns: too many"),
    (StepReopened(step="stp_1", key="code", by="ann"), "step opened again by ann"),
    (
        StepFailed(**STEP, code="overloaded", reason="529", next="retry", retry_at=LATER),
        "step failed, and is tried again at 14:13:20Z: overloaded: 529",
    ),
    (
        StepFailed(**STEP, code="turns", reason="too many", next="fallback"),
        "step failed, its fallback role takes it up: turns: too many",
    ),
    (StepFailed(**STEP, code="turns", reason="too many", next="ask"), "step failed, a human is asked: turns: too many"),
    (StepFailed(**STEP, code="turns", reason="too many", final=True), "step failed for good: turns: too many"),
    (
        StepStarted(step="s", key="code", role="senior", attempt=4, actor="s-4", attempts_max=6, fallback=True),
        "step started by senior, the fallback role, attempt 4 of 6",
    ),
    (
        StepTimedOut(step="s", key="code", attempt=1, seconds=90),
        "step timed out after 1m 30s: its agent is told to stop",
    ),
    (
        StepGivenUp(step="s", key="code", attempt=1, code="turns", reason="too many"),
        "step given up, the run goes on without it: turns: too many",
    ),
    (
        StepGivenUp(step="s", key="code", attempt=1, code="turns", reason="too many", by="ann"),
        "step given up, ann lets the run go on without it: turns: too many",
    ),
    (StepReopened(step="s", key="code", by="ann", comment="again"), "step opened again by ann: again"),
    (StepCanceled(**STEP), "step canceled"),
    (GatePassed(**STEP, verdict=Verdict(passed=True, summary="good")), "gate passed: good"),
    (
        GateFailed(**STEP, round=1, verdict=Verdict(passed=False, summary="no", findings=FINDINGS), rework=("code",)),
        "gate failed in round 1 with 1 finding, back to code: no",
    ),
    (GateWaived(step="s", key="code", by="ann"), "gate waived by ann"),
    (
        GateReopened(step="s", key="code", by="ann", comment="again", rework=("code",)),
        "gate opened again by ann, back to code: again",
    ),
    (TimerSet(timer="tmr_1", at=LATER, purpose="watch"), "timer set for 14:13:20Z (watch)"),
    (RunCancelRequested(by="ann", reason="enough"), "cancel asked for by ann: enough"),
    (
        RunChildRequested(
            child="run_2", request=RunRequested(goal="the rest", roles={}, tools={}, model="m"), wait=True
        ),
        'run wanted under this one: run_2, "the rest", waited for',
    ),
    (
        RunChildEnded(child="run_2", seq=9, status="succeeded", summary="good"),
        "run run_2 under this one succeeded: good",
    ),
    (
        RunChildEnded(child="run_2", seq=9, status="failed", code="turns_max", reason="too long"),
        "run run_2 under this one failed: turns_max: too long",
    ),
    (RunPaused(by="ann", reason="lunch"), "run paused by ann: lunch"),
    (RunResumed(by="ann"), "run resumed by ann"),
    (
        RunCancelRequested(by="its deadline", reason="60 s are over", timed_out=True),
        "the run's time is over, what goes on is stopped: 60 s are over",
    ),
    (RunTimedOut(reason="60 s are over"), "run timed out: 60 s are over"),
    (RunCanceled(by=""), "run canceled by nobody named"),
    (
        RunSucceeded(summary="good enough", degraded=True, given_up=("a", "b")),
        "run succeeded without a, b: good enough",
    ),
    (RunSucceeded(summary="all good"), "run succeeded: all good"),
    (RunFailed(code="turns", reason="too many", step="code"), "run failed at code: turns: too many"),
    (RunTurnFailed(message="7", error="KeyError"), "a turn of the run failed inside the engine: KeyError"),
    (
        AgentRequested(
            step="stp_1", key="code", role="coder", attempt=1, brief="b", definition="d", model="opus", tools={}
        ),
        "agent wanted: coder for code (model opus)",
    ),
    (ModelRequested(turn=3, takes=(FromCall(call="c"),), attempt=2), "model asked, turn 3, try 2, with 1 result"),
    (ModelTakenOver(turn=3, epoch=2), "model call of turn 3 taken over (epoch 2)"),
    (ModelReissued(turn=3, epoch=2), "model call of turn 3 was lost and is issued again (epoch 2)"),
    (
        ModelResponded(
            turn=3,
            epoch=1,
            content=(Text("I read."), ToolUse("t", "read_file", msgspec.Raw(b'{"path":"a.py"}'), "c")),
            stop="tool_use",
            model="m",
            usage=USED,
        ),
        'model answered: "I read.", then read_file(path="a.py") (1.2k in, 34 out, $0.0042)',
    ),
    (
        ModelFailed(turn=3, epoch=1, code="overloaded", reason="529", retry_at=LATER),
        "model call of turn 3 failed, tried again at 14:13:20Z: overloaded: 529",
    ),
    (ModelRefused(turn=3, epoch=1, reason="old epoch"), "a late answer to turn 3 changes nothing: old epoch"),
    (
        AgentChecking(round=1, checks=(Check("c", ("python3", "-m", "unittest")),)),
        "checking, round 1: python3 -m unittest",
    ),
    (AgentReissued(), "the agent's start was lost and is issued again"),
    (AgentCancelRequested(by="ann"), "agent told to stop by ann"),
    (AgentSucceeded(summary="done", turns=1), "agent done after 1 turn: done"),
    (AgentFailed(code="turns", reason="too many"), "agent failed: turns: too many"),
    (
        AgentChildEnded(child="run_2", status="succeeded", text="Run run_2 succeeded: done"),
        "agent told of a run it began: Run run_2 succeeded: done",
    ),
    (AgentPaused(by="ann", reason="lunch"), "agent paused by ann: lunch"),
    (AgentResumed(by="ann"), "agent resumed by ann"),
    (AgentCanceled(by="run"), "agent canceled by run"),
    (AgentTurnFailed(message="7", error="KeyError"), "a turn of the agent failed inside the engine: KeyError"),
    (
        ToolRequested(
            tool="write_file",
            arguments=msgspec.Raw(b'{"path":"a.py","content":"' + b"x\\n" * 600 + b'","n":2}'),
            effect="idempotent",
            owner="agent-coder",
            approval=True,
        ),
        'tool asked: write_file(path="a.py", content=1.2 KiB, n=2), needs approval',
    ),
    (
        ApprovalRequested(
            approval="apr_1",
            kind="tool_call",
            tool="publish",
            arguments=msgspec.Raw(b'{"to":"world"}'),
            digest="d",
            allowed=("approve", "reject"),
            risk="it goes out",
        ),
        'approval wanted: publish(to="world") (it goes out, apr_1)',
    ),
    (ApprovalDecided(approval="apr_1", decision="reject", by="ann", comment="no"), "rejected by ann: no"),
    (ApprovalExpired(approval="apr_1"), "approval expired: nobody decided in time"),
    (
        ToolCompleted(epoch=1, text="exit code 2\nboom", data={"exit_code": 2}, duration_ms=1200),
        "command failed: exit code 2 boom (1.2 s)",
    ),
    (ToolStarted(epoch=1), "tool started"),
    (ToolReissued(epoch=2), "tool call is issued again (epoch 2)"),
    (
        ToolAttemptFailed(epoch=1, attempt=1, code="unavailable", reason="503", retry_at=1_753_862_400_000),
        f"tool failed, attempt 1, tried again at {clock(1_753_862_400_000)}: unavailable: 503",
    ),
    (ToolCompleted(epoch=1, text="wrote it\n", duration_ms=12), "tool done: wrote it (12 ms)"),
    (ToolFailed(epoch=1, code="not_found", reason="no such file"), "tool failed: not_found: no such file"),
    (ToolCanceled(by="ann"), "tool canceled by ann"),
    (ToolOutcomeUnknown(epoch=1), "tool cut off in the middle: nobody knows whether it happened"),
    (ToolWaiting(epoch=1, child="run_2"), "tool waits for run run_2"),
    (ToolRefused(epoch=1, reason="after the end"), "a late outcome of the tool changes nothing: after the end"),
    (ToolTurnFailed(message="7", error="KeyError"), "a turn of the call failed inside the engine: KeyError"),
    (
        DeadLetterRecorded(source="step", code="attempts", reason="cut off", attempts=3),
        "dead letter of a step after 3 attempts: attempts: cut off",
    ),
    (
        DeadLetterReplayed(by="ann", way="new_run", made=("run_2",)),
        "dead letter begun anew by ann (run_2)",
    ),
    (DeadLetterPurged(by="ann"), "dead letter purged by ann"),
    (
        BudgetAsked(turn=2, need=Amount(tokens=5000, model_calls=1)),
        "more budget asked for: 5.0k tokens, 1 model call at least",
    ),
    (BudgetReceived(asked=3, grant=Grant(model_calls=4)), "more budget granted: 4 model calls in all"),
    (
        BudgetOverdrawn(turn=2, over=Amount(cost_micros=1200)),
        "the model call took $0.0012 more than was reserved for it",
    ),
    (BudgetGranted(key="a", actor="stp_a", asked=3, grant=Grant(model_calls=4)), "a is granted 4 model calls in all"),
    (BudgetShort(keys=("a", "b"), need=Amount(model_calls=1)), "a, b waits for budget: 1 model call at least"),
    (
        BudgetExhausted(
            lacks=("cost_micros",), need=Amount(cost_micros=830_000), left=Grant(cost_micros=0), keys=("a",)
        ),
        "out of budget (money): $0.83 needed at least (a call's worst case is reserved before it is made), $0.00 left; a would go on",
    ),
    (BudgetRaised(budget=Budget(cost_micros=3_000_000), by="ann"), "budget set to $3.00 by ann"),
    (
        BudgetClaimed(want=Grant(), least=Amount(model_calls=1)),
        "budget claimed of the workspace: a share, 1 model call at least",
    ),
    (BudgetAllotted(claim=3, grant=Grant(model_calls=4)), "the workspace allots 4 model calls in all"),
    (BudgetLimited(limit=Budget(tokens=5000), by="ann"), "workspace limited to 5.0k tokens by ann"),
    (BudgetReserved(run="run_1", claim=3, grant=Grant(model_calls=4)), "4 model calls reserved for run_1"),
    (
        BudgetQueued(run="run_1", claim=3, want=Grant(), least=Amount(model_calls=1)),
        "run_1 waits in line: 1 model call needed at least",
    ),
    (BudgetReturned(run="run_1", used=Amount(model_calls=2)), "run_1 ended and used 2 model calls"),
    (KeyClaimed(digest="d", makes="run_1"), "idempotency key claimed for run_1"),
    (KeyAnswered(status=202, body=msgspec.Raw(b"{}")), "idempotency key answered with 202"),
]


def test_the_table_below_has_every_type() -> None:
    assert {type_of(fact) for fact, _ in SAID} == TYPES


@pytest.mark.parametrize(("fact", "said"), SAID, ids=[type_of(fact) for fact, _ in SAID])
def test_a_fact_is_said_in_words(fact: Fact, said: str) -> None:
    assert words(fact).text == said


@pytest.mark.parametrize("fact", [fact for fact, _ in SAID], ids=[type_of(fact) for fact, _ in SAID])
def test_fmt_writes_one_line_for_a_body(fact: Fact) -> None:
    line = readable(encode(fact)).decode()
    assert line.endswith(words(fact).text + "\n")
    assert line.startswith(type_of(fact).rpartition(".")[0])
    assert line.count("\n") == 1


def test_fmt_shows_the_sequence_of_an_envelope() -> None:
    body = b'{"specversion":"1.0","seq":41,"type":"run.started.v1","data":{"type":"run.started.v1"}}'
    assert readable(body) == b"#41 run.started        run started\n"


@pytest.mark.parametrize(
    "body", [b"hello\n", b"{broken\n", b'{"type":"run.started.v9"}\n', b'{"turn":1,"text":"hi"}\n', b"\n", b"[1]"]
)
def test_fmt_passes_on_what_it_does_not_know(body: bytes) -> None:
    assert readable(body) == body


def test_fmt_says_what_is_wrong_with_a_broken_fact() -> None:
    assert readable(b'{"type":"tool.started.v1"}').startswith(b"tool.started.v1: broken fact")


def test_fmt_filters_line_by_line() -> None:
    sink = io.BytesIO()
    assert run(io.BytesIO(b'{"type":"run.started.v1"}\nplain\n'), sink) == 0
    assert sink.getvalue() == b"run.started        run started\nplain\n"


def test_nothing_that_moves_a_cursor_gets_through() -> None:
    evil = "\x1b[2J\x07\u202eabc\r\nnext\x9b31m"
    fact = ToolCompleted(epoch=1, text=evil)
    assert words(fact).text == "tool done: [2Jabc next31m (0 ms)"


def test_what_a_run_asks_about_a_step_or_a_gate_is_said_in_words() -> None:
    step = {"step": "write", "attempts": 2, "code": "validation", "reason": "false exit\ncode 1", "approve": "go on"}
    told = call_words("step", msgspec.json.encode(step), kind="step")
    assert told == "write failed after 2 attempts: validation: false exit code 1"
    gate = {"gate": "review", "summary": "off by one", "rounds": 1, "findings": [], "rework": ["write"]}
    assert (
        call_words("gate", msgspec.json.encode(gate), kind="gate") == "review has not passed after 1 round: off by one"
    )
    assert call_words("step", b'{"step":"x"}', kind="tool_call") == 'step(step="x")'
