"""The arithmetic of budgets: what is left, whether a need fits, how big a slice is, what a model call takes at worst. Pure.

Everything is reserved before it is spent and never goes below zero; a limit that is None is none.
"""

from collections.abc import Callable
from typing import Final, Literal

from msgspec.structs import replace

from actors.model import TOKENS_MAX
from events.budget import Amount, Budget, Grant, Rate
from events.fact import Usage

Dimension = Literal["tokens", "cost_micros", "model_calls", "tool_calls"]
DIMENSIONS: Final[tuple[Dimension, ...]] = ("tokens", "cost_micros", "model_calls", "tool_calls")
OUTPUT_TOKENS_MIN: Final = 4_096
"""A call that cannot have so long an answer is not worth making."""
SLICE_CALLS: Final = 8
SLICE_TOOL_CALLS: Final = 16
SET_AS: Final = {"cost_micros": "usd", "wall_seconds": "wall"}
"""What people call a limit where they set it, if not by its field."""
BYTES_PER_TOKEN: Final = 3
"""Fewer than models take for English or code (3.5 to 4), so that the estimate is on the safe side."""


def dollars(micros: int) -> str:
    """Write millionths of a US dollar, none left out: $0.0472, $2."""
    whole, rest = divmod(micros, 1_000_000)
    return f"${whole}.{rest:06d}".rstrip("0").rstrip(".")


def said(name: str, number: int) -> str:
    """Write so much of what a limit counts, in the unit people set it in."""
    return dollars(number) if name == "cost_micros" else str(number)


def too_low(field: str, name: str, value: int, committed: int) -> str:
    """Say that a limit is set below what is committed already."""
    return f"{field}.{SET_AS.get(name, name)}: {said(name, value)} is less than the {said(name, committed)} used and reserved"


def spent(usage: Usage) -> Amount:
    """Return what a usage takes from a budget."""
    taken = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
    return Amount(
        tokens=taken + usage.output_tokens,
        cost_micros=usage.cost_micros,
        model_calls=usage.model_calls,
        tool_calls=usage.tool_calls,
    )


def reserved(grant: Budget | Grant) -> Amount:
    """Return what a grant takes from the budget it is carved from; what is not limited takes nothing."""
    return _amount(lambda name: getattr(grant, name) or 0)


def left(limit: Budget | Grant, taken: Amount) -> Grant:
    """Return what is left of a limit when so much is taken: never below zero."""
    return _grant(lambda name: _left(getattr(limit, name), getattr(taken, name)))


def _left(limit: int | None, taken: int) -> int | None:
    return None if limit is None else max(0, limit - taken)


def lacking(need: Amount, rest: Grant) -> tuple[Dimension, ...]:
    """Name what a rest has too little of for a need; nothing, if it fits."""
    return tuple(name for name in DIMENSIONS if not _fits(getattr(need, name), getattr(rest, name)))


def _fits(need: int, rest: int | None) -> bool:
    return rest is None or need <= rest


def slice_of(rest: Grant, need: Amount, *, shares: int) -> Grant | None:
    """Return a slice of `rest`: an even share, at least `need`, at most some calls' worth; None if `need` does not fit.

    The cap keeps an agent that waits for a human from sitting on what others could use.
    """
    if lacking(need, rest):
        return None
    return _grant(lambda name: _slice(name, getattr(rest, name), getattr(need, name), shares))


def _slice(name: Dimension, rest: int | None, need: int, shares: int) -> int | None:
    if rest is None:
        return None
    most = SLICE_TOOL_CALLS if name == "tool_calls" else SLICE_CALLS * need
    return max(need, min(rest // max(1, shares), most))


def after(taken: Amount, part: Grant, *, until: int = 0, depth: int | None = None) -> Grant:
    """Return the whole grant of an actor that took so much and is given `part` on top."""
    whole = _grant(lambda name: _sum(getattr(part, name), getattr(taken, name)))
    return replace(whole, until=until, depth=depth)


def _sum(part: int | None, taken: int) -> int | None:
    return None if part is None else part + taken


def above(used: Amount, reservation: Amount) -> Amount:
    """Return by how much a use is above its reservation."""
    return _amount(lambda name: max(0, getattr(used, name) - getattr(reservation, name)))


def tokens_of(size: int) -> int:
    """Return how many tokens text of so many bytes may have."""
    return -(-size // BYTES_PER_TOKEN)


def call_amount(rate: Rate, *, input_tokens: int, output_tokens: int) -> Amount:
    """Return what a model call of that size takes at worst; its price is rounded up."""
    long = 0 < rate.long_over < input_tokens
    input_, output = (rate.long_input, rate.long_output) if long else (rate.input, rate.output)
    cost = -int(-(input_tokens * input_ + output_tokens * output) // 1)
    return Amount(tokens=input_tokens + output_tokens, cost_micros=cost, model_calls=1)


def output_that_fits(rate: Rate, rest: Grant, *, input_tokens: int) -> int:
    """Return how long an answer `rest` pays for, up to the usual limit; 0 if the call is not to be made."""
    if lacking(call_amount(rate, input_tokens=input_tokens, output_tokens=OUTPUT_TOKENS_MIN), rest):
        return 0
    most = TOKENS_MAX
    if rest.tokens is not None:
        most = min(most, rest.tokens - input_tokens)
    if rest.cost_micros is not None:
        without = call_amount(rate, input_tokens=input_tokens, output_tokens=0).cost_micros
        per_token = rate.long_output if 0 < rate.long_over < input_tokens else rate.output
        if per_token:
            most = min(most, int((rest.cost_micros - without - 1) / per_token))
    return max(most, OUTPUT_TOKENS_MIN)


def claimed(want: Grant, least: Amount, *, held: Amount, rest: Grant, share: int) -> Grant:
    """Return what a claim gets in all, of what is limited: what it wants as far as it goes, or a share where it names nothing."""
    return _grant(lambda name: _claimed(name, want, least, held=held, rest=rest, share=share))


def _claimed(name: Dimension, want: Grant, least: Amount, *, held: Amount, rest: Grant, share: int) -> int | None:
    free, wanted, has = getattr(rest, name), getattr(want, name), getattr(held, name)
    if free is None:
        return None
    more = has + free // share if wanted is None else min(wanted, has + free)
    return max(more, getattr(least, name), has)


def no_more_than(part: Grant, rest: Grant) -> Grant:
    """Return a slice cut down to what is left."""
    return _grant(lambda name: _least(getattr(part, name), getattr(rest, name)))


def _least(part: int | None, rest: int | None) -> int | None:
    return part if rest is None or part is None else min(part, rest)


def limited(amount: Amount, limit: Budget | Grant) -> Amount:
    """Return what of an amount a limit counts."""
    return _amount(lambda name: 0 if getattr(limit, name) is None else getattr(amount, name))


def narrowed(total: Budget, allot: Grant | None, pooled: tuple[str, ...]) -> Grant:
    """Return a run's limits: of what is `pooled` it has only what it was allotted."""

    def limit(name: Dimension) -> int | None:
        allotted = getattr(allot, name) if allot is not None else 0 if name in pooled else None
        return getattr(total, name) if allotted is None else allotted

    return _grant(limit)


def _amount(of: Callable[[Dimension], int]) -> Amount:
    return Amount(
        tokens=of("tokens"),
        cost_micros=of("cost_micros"),
        model_calls=of("model_calls"),
        tool_calls=of("tool_calls"),
    )


def _grant(of: Callable[[Dimension], int | None]) -> Grant:
    return Grant(
        tokens=of("tokens"),
        cost_micros=of("cost_micros"),
        model_calls=of("model_calls"),
        tool_calls=of("tool_calls"),
    )
