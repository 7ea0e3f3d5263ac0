"""What models are called and what they cost: a table kept as data in `prices.json`, in USD per million tokens.

A dollar per million tokens is a millionth of a dollar per token, so a cost in micros is a plain sum of products.
"""

import re
from functools import cache
from pathlib import Path
from typing import Annotated

import msgspec

from events.fact import Usage

INHERIT = ("", "inherit")
"""What a role says that takes the model of its run."""

_SNAPSHOT = re.compile(r"-20\d{6}$")

Dollars = Annotated[float, msgspec.Meta(ge=0)]


class Price(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """USD per million tokens; `cache_write` is for entries that live five minutes, the only ones we write."""

    input: Dollars
    output: Dollars
    cache_read: Dollars
    cache_write: Dollars


class LongPrompt(Price, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The price of a whole call whose prompt, cached or not, has more than `over_tokens` tokens."""

    over_tokens: int


class ModelPrice(Price, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model's price, and its second one for long prompts if it has one."""

    long_prompt: LongPrompt | None = None


class Prices(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table: short names, the name taken when none is given, and a price a model."""

    as_of: str
    default: str
    aliases: dict[str, str]
    usd_per_million_tokens: dict[str, ModelPrice]

    def price(self, model: str) -> ModelPrice | None:
        """Return a model's price, a dated snapshot's being its family's; None when the table lacks it."""
        table = self.usd_per_million_tokens
        return table.get(model) or table.get(_SNAPSHOT.sub("", model))

    def cost_micros(self, usage: Usage, model: str) -> int | None:
        """Return what these tokens cost in millionths of a US dollar; None when the model has no price."""
        price: Price | None = self.price(model)
        if price is None:
            return None
        prompt = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
        if price.long_prompt is not None and prompt > price.long_prompt.over_tokens:
            price = price.long_prompt
        return round(
            usage.input_tokens * price.input
            + usage.output_tokens * price.output
            + usage.cache_read_tokens * price.cache_read
            + usage.cache_write_tokens * price.cache_write
        )


def read_prices(data: bytes) -> Prices:
    """Return the table that JSON holds; raises msgspec.ValidationError with the path of a fault."""
    return msgspec.json.decode(data, type=Prices)


@cache
def list_prices() -> Prices:
    """Return the table that ships with the package."""
    return read_prices(Path(__file__).with_name("prices.json").read_bytes())


def resolve_model(name: str, *, inherited: str = "") -> str:
    """Return the provider's name of a model: `sonnet` becomes its current name, a full name stays as it is.

    An empty name or `inherit` is the inherited model, or the default one when nothing is inherited.
    """
    table = list_prices()
    wanted = inherited if name in INHERIT else name
    wanted = table.default if wanted in INHERIT else wanted
    return table.aliases.get(wanted, wanted)
