"""Each fact in plain words: what happened, to what, with the essence of it, on one line."""

from typing import cast, get_args

from events.agent import AgentFact
from events.budget import BudgetFact
from events.dead_letter import DeadLetterFact, DeadLetterPurged, DeadLetterRecorded, DeadLetterReplayed
from events.door import DoorFact, KeyAnswered, KeyClaimed
from events.fact import Fact
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
    RunFact,
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
from events.tool import ToolFact
from gateway.view.budget_words import of_budget
from gateway.view.calls import quoted, short
from gateway.view.say import Words, aside, bad, because, clock, done, fault, left, note, spent, warn, who, working
from gateway.view.text import clean, duration, listed, plural
from gateway.view.work_words import of_agent, of_tool


def words(fact: Fact) -> Words:
    """Return what a fact says; one of a type unknown here is named by its type."""
    if isinstance(fact, get_args(RunFact)):
        return _of_run(cast("RunFact", fact))
    if isinstance(fact, get_args(AgentFact)):
        return of_agent(cast("AgentFact", fact))
    if isinstance(fact, get_args(ToolFact)):
        return of_tool(cast("ToolFact", fact))
    if isinstance(fact, get_args(DeadLetterFact)):
        return _of_letter(cast("DeadLetterFact", fact))
    if isinstance(fact, get_args(BudgetFact)):
        return of_budget(cast("BudgetFact", fact))
    return _of_door(cast("DoorFact", fact))


def _of_run(fact: RunFact) -> Words:
    match fact:
        case RunRequested(goal=goal, blueprint=blueprint, model=model, plan=plan, carried=carried):
            steps = plural(len(plan.steps), "step") if plan else "a planner makes the plan"
            named = f"blueprint {blueprint}, " if blueprint else ""
            over = f", {len(carried.steps)} of them done in {carried.run}" if carried else ""
            return note(f"run requested: {quoted(goal)} ({named}model {model}, {steps}{over})")
        case RunStarted():
            return working("run started")
        case PlanAccepted(plan=plan):
            keys = listed((step.id for step in plan.steps), most=9)
            return done(f"plan accepted: {plural(len(plan.steps), 'step')} ({keys})")
        case RunCancelRequested(timed_out=True, reason=reason):
            return warn(f"the run's time is over, what goes on is stopped{because(reason)}")
        case RunCancelRequested(by=by, reason=reason):
            return warn(f"cancel asked for by {who(by)}{because(reason)}")
        case RunPaused(by=by, reason=reason):
            return Words("paused", "warn", f"run paused by {who(by)}{because(reason)}")
        case RunResumed(by=by, reason=reason):
            return working(f"run resumed by {who(by)}{because(reason)}")
        case RunCanceled(by=by, reason=reason):
            return bad(f"run canceled by {who(by)}{because(reason)}")
        case RunTimedOut(reason=reason):
            return bad(f"run timed out{because(reason)}")
        case RunSucceeded(summary=summary, given_up=(_, *_) as keys):
            return warn(f"run succeeded without {listed(keys)}: {short(summary)}")
        case RunSucceeded(summary=summary):
            return done(f"run succeeded: {short(summary)}")
        case RunFailed(code=code, reason=reason, step=step):
            return bad(f"run failed{f' at {step}' if step else ''}: {fault(code, reason)}")
        case TimerSet(at=at, purpose=purpose):
            return note(f"timer set for {clock(at)} ({clean(purpose)})")
        case RunChildRequested(child=child, request=request, wait=wait):
            return note(
                f"run wanted under this one: {child}, {quoted(request.goal, 60)}{', waited for' if wait else ''}"
            )
        case RunChildEnded(child=child, status=status, summary=summary, code=code, reason=reason):
            ended = f"run {child} under this one {clean(status)}"
            return (
                done(f"{ended}: {short(summary)}") if status == "succeeded" else bad(f"{ended}: {fault(code, reason)}")
            )
        case RunTurnFailed(error=error):
            return bad(f"a turn of the run failed inside the engine: {short(error)}")
        case _:
            return _of_step(fact)


_StepFact = (
    StepStarted
    | StepSucceeded
    | StepConflicted
    | StepFailed
    | StepTimedOut
    | StepGivenUp
    | StepReopened
    | StepCanceled
    | GatePassed
    | GateFailed
    | GateWaived
    | GateReopened
)


def _of_step(fact: _StepFact) -> Words:
    match fact:
        case StepStarted(role=role, attempt=attempt, findings=findings, conflicts=conflicts) as fact:
            of = f" of {fact.attempts_max}" if fact.attempts_max else ""
            again = f", {'the fallback role, ' if fact.fallback else ''}attempt {attempt}{of}" if attempt > 1 else ""
            why = f", {plural(len(findings), 'finding')} to mend" if findings else ""
            met = f", after a conflict on {listed(map(clean, conflicts))}" if conflicts else ""
            return working(f"step started by {role}{again}{why}{met}")
        case StepSucceeded(summary=summary, changes=changes, artifacts=artifacts, usage=usage):
            files = left(changes, len(artifacts))
            return done(f"step succeeded: {short(summary)}{aside(files, spent(usage))}")
        case StepConflicted(paths=paths):
            return warn(f"step conflicted on {listed(map(clean, paths))}: it is tried again from what is there now")
        case StepFailed(code=code, reason=reason):
            return bad(f"step failed{_after(fact)}: {fault(code, reason)}")
        case StepTimedOut(seconds=seconds):
            return warn(f"step timed out after {duration(round(seconds * 1000))}: its agent is told to stop")
        case StepGivenUp(code=code, reason=reason, by=by):
            said = f"{who(by)} lets the run go on" if by else "the run goes on"
            return warn(f"step given up, {said} without it: {fault(code, reason)}")
        case StepReopened(by=by, comment=comment):
            return working(f"step opened again by {who(by)}{because(comment)}")
        case StepCanceled():
            return bad("step canceled")
        case GatePassed(verdict=verdict, usage=usage):
            return done(f"gate passed: {short(verdict.summary)}{aside(spent(usage))}")
        case GateFailed(round=round_, verdict=verdict, rework=rework, ask=ask):
            then = "a human is asked" if ask else f"back to {listed(rework)}"
            found = plural(len(verdict.findings), "finding")
            return warn(f"gate failed in round {round_} with {found}, {then}: {short(verdict.summary)}")
        case GateWaived(by=by, comment=comment):
            return done(f"gate waived by {who(by)}{because(comment)}")
        case GateReopened(by=by, comment=comment, rework=rework):
            return working(f"gate opened again by {who(by)}, back to {listed(rework)}{because(comment)}")


def _after(fact: StepFailed) -> str:
    """Say what follows a failed attempt."""
    match fact.next or ("fail" if fact.final else "retry"):
        case "retry":
            return f", and is tried again{f' at {clock(fact.retry_at)}' if fact.retry_at else ''}"
        case "fallback":
            return ", its fallback role takes it up"
        case "ask":
            return ", a human is asked"
        case "degrade":
            return ", and is given up"
        case "fail":
            return " for good"
        case "stop":
            return " while the run stops"


def _of_door(fact: DoorFact) -> Words:
    match fact:
        case KeyClaimed(makes=makes):
            return note(f"idempotency key claimed for {clean(makes)}")
        case KeyAnswered(status=status):
            return note(f"idempotency key answered with {status}")


def _of_letter(fact: DeadLetterFact) -> Words:
    match fact:
        case DeadLetterRecorded(source=source, code=code, reason=reason, attempts=attempts):
            tried = f" after {plural(attempts, 'attempt')}" if attempts > 1 else ""
            return bad(f"dead letter of a {source}{tried}: {fault(code, reason)}")
        case DeadLetterReplayed(by=by, way=way, made=made):
            did = {"sent": "sent again", "reopened": "opened again", "new_run": "begun anew"}[way]
            return working(f"dead letter {did} by {who(by)}{aside(listed(map(clean, made)))}")
        case DeadLetterPurged(by=by):
            return note(f"dead letter purged by {who(by)}")
