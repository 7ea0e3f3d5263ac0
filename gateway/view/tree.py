"""The live tree: a board as lines, in as many columns and rows as there are."""

from typing import Final

from events.run import RunSucceeded
from gateway.view.board import Ask, Board, Call, Past, Step
from gateway.view.budget_lines import raise_line
from gateway.view.budget_words import exhausted
from gateway.view.calls import call_words
from gateway.view.paint import Line, Look, Piece, Tone, cut_line, line, line_width
from gateway.view.say import because, who
from gateway.view.text import ago, clean, count, duration, listed, money, pad, plural, width, wrapped

KEY_MAX: Final = 24
ROLE_MAX: Final = 20
ROLE_FROM: Final = 110
METER_FROM: Final = 90
WORDS_MIN: Final = 20
OVER: Final = frozenset({"succeeded", "skipped"})
PAST_SHOWN: Final = 2
ROWS_MIN: Final = 3
OR: Final = "   or   "
"""Between commands of which one is meant; where they do not fit, each has a line of its own, for who copies it."""
ASKS: Final = {"tool_call": "wants", "outcome": "asks what became of"}

_SIGNS: Final[dict[str, tuple[str, Tone]]] = {
    "pending": ("pending", "dim"),
    "running": ("working", "accent"),
    "waiting": ("asks", "warn"),
    "succeeded": ("done", "good"),
    "failed": ("failed", "bad"),
    "canceled": ("failed", "bad"),
    "skipped": ("skipped", "dim"),
    "queued": ("pending", "dim"),
    "planning": ("working", "accent"),
    "needs_input": ("asks", "warn"),
    "timed_out": ("failed", "bad"),
    "paused": ("paused", "warn"),
}


def tree(board: Board, *, now_ms: int, columns: int, rows: int = 0, look: Look) -> list[Line]:
    """Return the whole picture; with `rows` it fits into so many: what is done and what waits is summed up first."""
    top, foot = _head(board, look), _foot(board, now_ms, columns, look)
    blocks = [(step, _block(board, step, now_ms=now_ms, columns=columns, look=look)) for step in board.steps.values()]
    room = max(rows - len(top) - len(foot), ROWS_MIN) if rows else 0
    lines = [cut_line(each, columns, look) for each in (*top, *_fitted(blocks, room, look), *foot)]
    return lines[-rows:] if rows else lines


def status_sign(status: str, look: Look) -> Piece:
    """Return the sign of a state word."""
    sign, tone = _SIGNS.get(status, ("note", ""))
    return Piece(look.sign(sign), tone)


def status_tone(status: str) -> Tone:
    """Return the tone of a state word."""
    return _SIGNS.get(status, ("note", ""))[1]


def _head(board: Board, look: Look) -> list[Line]:
    made_by = ", ".join(part for part in (board.blueprint, f"model {board.model}" if board.model else "") if part)
    return [
        line(Piece(clean(board.goal) or board.run, "bold")),
        line(Piece(f"{board.run}  {made_by}", "dim")),
        line(),
    ]


def _foot(board: Board, now_ms: int, columns: int, look: Look) -> list[Line]:
    dot = f" {look.sign('note')} "
    end = board.last_ms if board.end is not None else now_ms
    done, total = board.progress
    status = board.status.replace("_", " ")
    word = "canceling" if board.canceling and board.end is None else status
    if isinstance(board.end, RunSucceeded) and board.end.given_up:
        word = f"{status} without {listed(board.end.given_up, most=3)}"
    began = [
        f"{done}/{plural(total, 'step')}" if total else "no plan yet",
        duration(end - board.first_ms) if board.first_ms else "",
    ]
    counted = [plural(board.turns, "model call"), plural(board.calls, "tool call"), _tokens(board)]
    more = Piece(dot.join(part for part in counted if part), "dim")
    told = Piece(dot + dot.join(part for part in began if part), "dim")
    first = line(" ", status_sign(board.status, look), " ", Piece(word, status_tone(board.status)), told)
    whole = line(*first, Piece(dot, "dim"), more)
    summed = [whole] if line_width(whole) <= columns else [first, line("   ", more)]
    return [line(), *summed, *_under(board, look), *_paused(board, now_ms, look), *_asked(board, columns, look)]


def _paused(board: Board, now_ms: int, look: Look) -> list[Line]:
    """By whom the run is paused, since when, and how to go on."""
    paused = board.paused
    if paused is None or board.end is not None:
        return []
    words = f"paused by {who(paused.by)} {ago(paused.since_ms, now_ms)}{because(paused.reason)}"
    return [
        line(),
        line(" ", status_sign("paused", look), " ", Piece(words, "warn")),
        line("   ", Piece(resume_line(board.run), "dim")),
    ]


def resume_line(run: str) -> str:
    """Return the command that lets a paused run go on."""
    return f"callboard runs resume {run}"


def _under(board: Board, look: Look) -> list[Line]:
    """The runs under it that go on, which it waits for before it ends."""
    open_ = [child for child, status in board.children.items() if not status]
    if not open_ or board.end is not None:
        return []
    words = f"{plural(len(open_), 'run')} under it not ended: {listed(open_, most=2)}"
    return [line(" ", Piece(look.sign("working"), "accent"), " ", Piece(words, "dim"))]


def _tokens(board: Board) -> str:
    usage = board.usage
    taken = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
    if not taken and not usage.output_tokens:
        return ""
    pretended = " pretended" if board.pretended else ""
    return f"{count(taken)} in, {count(usage.output_tokens)} out, {money(usage.cost_micros)}{pretended}"


def _asked(board: Board, columns: int, look: Look) -> list[Line]:
    found: list[Line] = []
    for ask in board.asks.values():
        who = f"{ask.role or 'the run'} {ASKS.get(ask.kind, 'asks')}"
        what = call_words(ask.tool, ask.arguments, kind=ask.kind)
        found.append(line(" ", Piece(look.sign("asks"), "warn"), " ", Piece(f"{who}: {what}", "warn")))
        whole = answer_line(ask)
        ways = [whole] if width(whole) + 3 <= columns else whole.split(OR)
        found += [line("   ", Piece(way, "dim")) for way in ways]
    if board.budget is not None:
        first, *rest = wrapped(f"the run is {exhausted(board.budget)}", columns - 3)
        found.append(line(" ", Piece(look.sign("asks"), "warn"), " ", Piece(first, "warn")))
        found += [line("   ", Piece(each, "warn")) for each in rest]
        found.append(line("   ", Piece(raise_line(board.run, board.budget), "dim")))
    return [line(), *found] if found else []


def answer_line(ask: Ask) -> str:
    """Return the command that answers an ask."""
    if "respond" in ask.allowed and "approve" not in ask.allowed:
        return f'callboard approve {ask.id} -m "your answer"'
    again = f'{OR}callboard approve {ask.id} --respond -m "what to do"' if "respond" in ask.allowed else ""
    return f"callboard approve {ask.id}{again}{OR}callboard reject {ask.id} -m WHY"


def _block(board: Board, step: Step, *, now_ms: int, columns: int, look: Look) -> list[Line]:
    """A step's line, what went wrong before below it, and its calls if there are several at once."""
    keys = min(max((width(key) for key in board.steps), default=0), KEY_MAX)
    roles = min(max((width(each.role) for each in board.steps.values()), default=0), ROLE_MAX)
    left = [" ", status_sign(step.status, look), " ", Piece(pad(look.cut(step.key, keys), keys), _key_tone(step))]
    if columns >= ROLE_FROM:
        left.append(Piece("  " + pad(look.cut(step.role, roles), roles), "dim"))
    right = _right(step, now_ms, columns)
    room = columns - sum(width(piece if isinstance(piece, str) else piece.text) for piece in left) - width(right) - 4
    words = pad(look.cut(clean(_words(board, step, look, now_ms=now_ms)), max(room, WORDS_MIN)), max(room, WORDS_MIN))
    lines = [line(*left, "  ", Piece(words, _words_tone(step)), "  ", Piece(right, "dim"))]
    below = [_below_past(past, look) for past in step.past[-PAST_SHOWN:]]
    if len(step.calls) > 1:
        below += [_below_call(call, look) for call in step.calls.values()]
    for position, (sign, text) in enumerate(below):
        corner = look.sign("last" if position == len(below) - 1 else "branch")
        lines.append(line("   ", Piece(corner, "dim"), " ", sign, " ", Piece(clean(text), "dim")))
    return lines


def _below_past(past: Past, look: Look) -> tuple[Piece, str]:
    return Piece(look.sign(past.sign), "warn" if past.sign == "again" else "bad"), past.text


def _below_call(call: Call, look: Look) -> tuple[Piece, str]:
    return Piece(look.sign("asks"), "warn") if call.waits else Piece(look.sign("working"), "accent"), call.words


def _key_tone(step: Step) -> Tone:
    return "dim" if step.status in ("pending", "skipped") else "bold" if step.status == "running" else ""


def _words_tone(step: Step) -> Tone:
    match step.status:
        case "running":
            return ""
        case "waiting":
            return "warn"
        case "failed":
            return "bad"
        case _:
            return "dim"


def _words(board: Board, step: Step, look: Look, *, now_ms: int) -> str:
    match step.status:
        case "pending":
            if step.retry_ms:
                return f"{step.note}, tried again {_in(step.retry_ms, now_ms)}"
            missing = [key for key in step.needs if key in board.steps and board.steps[key].status not in OVER]
            ready = "waits for budget" if step.key in board.short else "ready"
            waits = f"waits for {listed(missing, most=3)}" if missing else ready
            return f"{step.note}, {waits}" if step.note else waits
        case "running" | "waiting":
            return "waits for budget" if step.key in board.short else _doing(step, look)
        case "succeeded":
            return f"{'passed' if step.gate else 'done'}: {step.note}" if step.note else "done"
        case _:
            return f"{step.status}: {step.note}" if step.note else step.status


def _in(at_ms: int, now_ms: int) -> str:
    return f"in {duration(at_ms - now_ms)}" if at_ms > now_ms else "now"


def _doing(step: Step, look: Look) -> str:
    of = f" of {step.attempts_max}" if step.attempts_max else ""
    second = f"fallback {step.role}, " if step.fallback else ""
    again = f"{second}attempt {step.attempt}{of}, " if step.attempt > 1 else ""
    turn = f"turn {step.turn}, " if step.turn else ""
    calls = list(step.calls.values())
    if calls and all(call.check for call in calls):
        what = calls[0].words if len(calls) == 1 else f"{len(calls)} commands at once"
        return f"{again}checking: {what}"
    if len(calls) > 1:
        return f"{again}{turn}{len(calls)} calls at once"
    if calls:
        return f"{again}{turn}{'waits for a human: ' if calls[0].waits else ''}{calls[0].words}"
    if step.status == "waiting":
        return "waits for a human"
    if step.note and not step.thinking:
        return f"{again}{turn}{step.note}"
    return (
        f"{again}{turn}thinking" if step.thinking else f"{again}{turn or 'starting'}".rstrip(", ") + look.sign("more")
    )


def _right(step: Step, now_ms: int, columns: int) -> str:
    """Tokens, cost and time, in columns of their own."""
    moves = step.ended_ms or step.status in ("running", "waiting")
    took = pad(duration((step.ended_ms or now_ms) - step.started_ms) if moves else "", 7, right=True)
    if columns < METER_FROM:
        return took
    usage = step.usage
    taken = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
    used = f"{count(taken)} in {count(usage.output_tokens)} out" if taken else ""
    cost = money(usage.cost_micros) if usage.cost_micros else ""
    return f"{pad(used, 17, right=True)} {pad(cost, 8, right=True)} {took}"


def _fitted(blocks: list[tuple[Step, list[Line]]], room: int, look: Look) -> list[Line]:
    """All blocks, or with too little room: those that move, with the others summed up before and after."""
    if not room or sum(len(lines) for _, lines in blocks) <= room:
        return [each for _, lines in blocks for each in lines]
    moving = [lines for step, lines in blocks if step.status not in ("succeeded", "pending", "skipped")]
    shown = [each for lines in moving for each in lines][: room - 2]
    done = sum(step.status == "succeeded" for step, _ in blocks)
    idle = sum(step.status in ("pending", "skipped") for step, _ in blocks)
    before = [line(" ", status_sign("succeeded", look), f" {plural(done, 'step')} done")] if done else []
    after = [line(" ", status_sign("pending", look), Piece(f" {plural(idle, 'step')} to come", "dim"))] if idle else []
    return [*before, *shown, *after]
