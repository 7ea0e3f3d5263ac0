"""Runs, steps, approvals and artifacts as rows of a table, and each alone as lines."""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from events.envelope import from_rfc3339
from events.fact import Usage
from gateway import views
from gateway.view.calls import call_words
from gateway.view.lines import TimeStyle, written
from gateway.view.paint import Line, Look, Piece, line
from gateway.view.say import because, clock, who
from gateway.view.table import FIELD_COLUMNS, Cell, Column, fields
from gateway.view.text import clean, count, duration, escape, listed, money, pad, plural, size
from gateway.view.tree import resume_line, status_sign, status_tone

RUNS: Final = (
    Column("id"),
    Column("status"),
    Column("goal", grows=True, least=16),
    Column("steps", leaves=2, right=True),
    Column("cost", leaves=3, right=True),
    Column("age", leaves=1, right=True),
    Column("blueprint", leaves=4),
    Column("model", wide=True),
    Column("tokens", wide=True),
    Column("by", wide=True),
    Column("labels", wide=True),
)
STEPS: Final = (
    Column("step"),
    Column("status"),
    Column("role", leaves=4),
    Column("summary", grows=True, least=16),
    Column("attempt", leaves=3, right=True),
    Column("turns", leaves=5, right=True),
    Column("tokens", leaves=2),
    Column("took", leaves=1, right=True),
    Column("id", wide=True),
    Column("cost", wide=True, right=True),
)
APPROVALS: Final = (
    Column("id"),
    Column("status"),
    Column("call", grows=True, least=20),
    Column("step", leaves=3),
    Column("role", leaves=4),
    Column("age", leaves=1, right=True),
    Column("run", wide=True),
    Column("by", wide=True),
    Column("risk", wide=True),
)
ARTIFACTS: Final = (
    Column("name", grows=True, least=16),
    Column("version", leaves=3, right=True),
    Column("size", leaves=2, right=True),
    Column("title", grows=True, leaves=4, least=8),
    Column("step", leaves=1),
    Column("id", leaves=5),
    Column("type", wide=True),
    Column("run", wide=True),
    Column("created", wide=True),
)

LOOK_AT: Final = {
    "approval": "callboard approvals show {}",
    "question": "callboard approvals show {}",
    "budget": "callboard runs budget {}",
    "child": "callboard status {}",
}
"""By what a run waits on: the command that tells more."""


class Showing(msgspec.Struct, frozen=True):
    """How things are shown: on which terminal, when it is now (ms since the epoch), and how times are written."""

    look: Look
    now_ms: int
    times: TimeStyle = "relative"
    columns: int = 0

    @property
    def width(self) -> int:
        """How wide names and values stand."""
        return min(self.columns, FIELD_COLUMNS) or FIELD_COLUMNS

    def time(self, at: str | None) -> str:
        """Write a time that came as RFC 3339."""
        return written(from_rfc3339(at), self.now_ms, self.times) if at else ""

    def status(self, word: str) -> Line:
        """Write a state word with its sign."""
        return line(status_sign(word, self.look), " ", Piece(word.replace("_", " "), status_tone(word)))


def run_row(run: views.Run, showing: Showing) -> Mapping[str, Cell]:
    """Return a run as a row of RUNS."""
    return {
        "id": run.id,
        "status": showing.status(run.status),
        "goal": clean(run.goal),
        "steps": f"{run.steps_done}/{run.steps_total}" if run.steps_total else "",
        "cost": money(run.usage.cost_micros) if run.usage.cost_micros else "",
        "age": showing.time(run.created_at),
        "blueprint": run.blueprint,
        "model": run.model,
        "tokens": tokens(run.usage),
        "by": clean(run.by),
        "labels": _labels(run.labels),
    }


def run_lines(run: views.Run, showing: Showing) -> list[Line]:
    """Return a run alone."""
    waits = [f"{wait.kind} {wait.id} ({showing.time(wait.since)})" for wait in run.waiting_on]
    fault = run.error
    return [
        line(Piece(clean(run.goal), "bold")),
        *fields(
            [
                ("id", run.id),
                ("status", showing.status(run.status)),
                ("paused", line(Piece(paused(run.paused, showing), "warn")) if run.paused else ""),
                ("go on with", resume_line(run.id) if run.paused else ""),
                ("waits on", listed(waits)),
                ("look at", LOOK_AT.get(run.waiting_on[0].kind, "").format(run.waiting_on[0].id) if waits else ""),
                ("error", line(Piece(_error(fault), "bad")) if fault else ""),
                ("result", clean(run.summary or "")),
                ("without", line(Piece(listed(run.given_up), "warn")) if run.given_up else ""),
                ("steps", f"{run.steps_done}/{run.steps_total}" if run.steps_total else ""),
                ("took", duration(_took(run, showing))),
                ("tokens", tokens(run.usage)),
                ("cost", cost(run.usage, run.model)),
                ("blueprint", run.blueprint),
                ("model", run.model),
                ("labels", _labels(run.labels)),
                ("by", clean(run.by)),
                ("under", run.parent.run if run.parent else ""),
                ("runs under it", listed(f"{child.id} {child.status or 'open'}" for child in run.children)),
                ("created", showing.time(run.created_at)),
                ("ended", showing.time(run.ended_at)),
                ("trace", run.trace_id),
                ("events", f"{run.first_seq} to {run.seq}"),
            ],
            columns=showing.width,
        ),
    ]


def _took(run: views.Run, showing: Showing) -> int:
    return run.duration_ms if run.ended_at else max(showing.now_ms - from_rfc3339(run.created_at), 0)


def paused(found: views.Paused, showing: Showing) -> str:
    """Say who paused a run, when and why."""
    return f"by {who(found.by)} {showing.time(found.since)}{because(found.reason)}"


def step_row(step: views.Step, showing: Showing) -> Mapping[str, Cell]:
    """Return a step as a row of STEPS."""
    ended = from_rfc3339(step.ended_at) if step.ended_at else showing.now_ms
    gate = f" ({step.gate})" if step.gate not in ("", "pending") else ""
    said = _error(step.error) if step.error else clean(step.summary or step.title)
    if step.retry_at:
        said = f"{said}, tried again at {clock(from_rfc3339(step.retry_at))}"
    return {
        "step": step.key,
        "status": (*showing.status(step.status), Piece(gate, "dim")) if gate else showing.status(step.status),
        "role": f"{step.role} (fallback)" if step.fallback else step.role,
        "summary": said,
        "attempt": _attempt(step),
        "turns": str(step.turns) if step.turns else "",
        "tokens": tokens(step.usage),
        "took": duration(ended - from_rfc3339(step.started_at)) if step.started_at else "",
        "id": step.id,
        "cost": money(step.usage.cost_micros) if step.usage.cost_micros else "",
    }


def _attempt(step: views.Step) -> str:
    return f"{step.attempt}/{step.attempts_max}" if step.attempts_max else str(step.attempt or "")


def graph_lines(graph: views.Graph, showing: Showing) -> list[Line]:
    """Return a plan: each step with what it needs, and what a gate may send back."""
    keys = max((len(node.key) for node in graph.nodes), default=0)
    needs = {node.key: [edge.source for edge in graph.edges if edge.target == node.key] for node in graph.nodes}
    back: dict[str, list[str]] = {}
    for edge in graph.edges:
        if edge.rework:
            back.setdefault(edge.source, []).append(edge.target)
            needs[edge.target].remove(edge.source)
    arrow = showing.look.sign("to")
    return [
        line(
            " ",
            status_sign(node.status, showing.look),
            " ",
            Piece(pad(node.key, keys), "bold"),
            Piece(f"  needs {', '.join(needs[node.key])}" if needs[node.key] else "", "dim"),
            Piece(f"  {arrow} may send back {', '.join(back[node.key])}" if node.key in back else "", "warn"),
        )
        for node in graph.nodes
    ]


def approval_row(approval: views.Approval, showing: Showing) -> Mapping[str, Cell]:
    """Return an approval as a row of APPROVALS."""
    return {
        "id": approval.id,
        "status": showing.status({"pending": "waiting"}.get(approval.status, approval.status)),
        "call": call_words(approval.tool, approval.arguments, kind=approval.kind),
        "step": approval.step,
        "role": approval.role,
        "age": showing.time(approval.requested_at),
        "run": approval.run,
        "by": clean(approval.by or ""),
        "risk": clean(approval.risk),
    }


def approval_lines(approval: views.Approval, showing: Showing) -> list[Line]:
    """Return an approval alone, its call to the letter."""
    asked, edited = _exact(approval.arguments), _exact(approval.edited)
    shown = fields(
        [
            ("id", approval.id),
            ("status", showing.status(approval.status)),
            ("kind", approval.kind.replace("_", " ")),
            ("run", approval.run),
            ("step", f"{approval.step} ({approval.role})"),
            ("risk", line(Piece(clean(approval.risk), "warn")) if approval.risk else ""),
            ("allowed", ", ".join(approval.allowed)),
            ("asked", showing.time(approval.requested_at)),
            ("expires", showing.time(approval.expires_at)),
            ("decided", " ".join(part for part in (showing.time(approval.decided_at), approval.by or "") if part)),
            ("comment", clean(approval.comment or "")),
        ],
        columns=showing.width,
    )
    call = [line(), line(Piece(clean(approval.tool), "bold")), *asked]
    return [*shown, *call, *([line(), line(Piece("edited to", "bold")), *edited] if edited else [])]


def _exact(arguments: msgspec.Raw) -> list[Line]:
    if bytes(arguments) in (b"", b"null"):
        return []
    return [
        line(each)
        for each in escape(msgspec.json.format(bytes(arguments), indent=2).decode(errors="replace")).splitlines()
    ]


def artifact_row(artifact: views.Artifact, showing: Showing) -> Mapping[str, Cell]:
    """Return an artifact as a row of ARTIFACTS."""
    return {
        "name": clean(artifact.name),
        "version": str(artifact.version),
        "size": size(artifact.size),
        "title": clean(artifact.title),
        "step": artifact.step,
        "id": artifact.id,
        "type": artifact.media_type,
        "run": artifact.run,
        "created": showing.time(artifact.created_at),
    }


def result_lines(result: views.Result, showing: Showing, *, model: str = "") -> list[Line]:
    """Return what a run came to."""
    names = [artifact.name for artifact in result.artifacts]
    denied = [f"{denial.tool} ({denial.reason or denial.code})" for denial in result.denials]
    return fields(
        [
            ("run", result.run_id),
            ("status", showing.status(result.status)),
            ("error", line(Piece(_error(result.error), "bad")) if result.error else ""),
            ("result", clean(result.result or "")),
            ("without", line(Piece(listed(result.given_up), "warn")) if result.given_up else ""),
            ("artifacts", ", ".join(names)),
            ("denied", line(Piece(clean(listed(denied)), "warn")) if denied else ""),
            ("took", f"{duration(result.duration_ms)}, {plural(result.num_turns, 'model call')}"),
            ("tokens", tokens(result.usage)),
            ("cost", cost(result.usage, model)),
        ],
        columns=showing.width,
    )


def tokens(usage: Usage | views.Usage) -> str:
    """Write tokens in and out; empty for none."""
    taken = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
    return f"{count(taken)} in, {count(usage.output_tokens)} out" if taken or usage.output_tokens else ""


def cost(usage: Usage | views.Usage, model: str) -> str:
    """Write a cost; a script's is pretended, and says so."""
    told = money(usage.cost_micros) if usage.cost_micros else ""
    return f"{told} (pretended by the script)" if told and model == "scripted" else told


def _error(fault: views.Error | None) -> str:
    if fault is None:
        return ""
    return clean(f"{f'{fault.step}: ' if fault.step else ''}{fault.code}: {fault.reason}")


def _labels(labels: Mapping[str, str]) -> str:
    return clean(" ".join(f"{name}={value}" for name, value in labels.items()))


def ids(rows: Sequence[views.Run | views.Approval | views.Artifact | views.Step]) -> list[str]:
    """Return the ids of rows."""
    return [row.id for row in rows]
