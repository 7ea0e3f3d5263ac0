"""Which provider answers for which model name."""

from pathlib import Path
from typing import Final

from actors.anthropic_model import AnthropicModel
from actors.cassette import Cassette, load_cassette
from actors.model import Model
from actors.prices import INHERIT, list_prices, resolve_model
from actors.scripted import ScriptedModel
from gateway.settings import Settings

SCRIPTED: Final = "scripted"
ANTHROPIC: Final = "anthropic"
GENERIC: Final = Path(__file__).parent / "blueprints" / "scripted.yaml"


class Models:
    """The providers of a process, made when first asked for. Tests pass their own by name."""

    def __init__(self, settings: Settings, *, cassette: Cassette | None = None, **providers: Model) -> None:
        self.settings = settings
        self.cassette = cassette
        self._providers: dict[str, Model] = dict(providers)

    def resolve(self, name: str) -> str:
        """Return the full name of a model; raises ValueError naming what is known."""
        if name in self._providers or name == SCRIPTED:
            return name
        if name == ANTHROPIC:
            return resolve_model("inherit")
        table = list_prices()
        if name in INHERIT or name in table.aliases or name.startswith("claude-") or self.settings.anthropic_base_url:
            return resolve_model(name)
        known = ", ".join(dict.fromkeys([SCRIPTED, ANTHROPIC, *table.aliases, *self._providers]))
        raise ValueError(f"unknown model {name[:80]!r}; known: {known}, or a full name that begins with claude-")

    def of(self, model: str) -> Model:
        """Return the provider of a model."""
        provider = model if model in self._providers else SCRIPTED if model == SCRIPTED else ANTHROPIC
        if provider not in self._providers:
            self._providers[provider] = self._scripted() if provider == SCRIPTED else self._anthropic()
        return self._providers[provider]

    async def close(self) -> None:
        """Close the connections of the providers that were used."""
        for provider in self._providers.values():
            if isinstance(provider, AnthropicModel):
                await provider.close()

    def _anthropic(self) -> Model:
        return AnthropicModel(
            api_key=self.settings.anthropic_api_key or None, base_url=self.settings.anthropic_base_url or None
        )

    def _scripted(self) -> Model:
        path = Path(self.settings.cassette) if self.settings.cassette else GENERIC
        return ScriptedModel(self.cassette or load_cassette(path), speed=self.settings.script_speed)
