"""The base of every fact: a frozen struct whose `type` tag carries kind, fact and version, as in `tool.completed.v1`."""

import msgspec


class Fact(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", omit_defaults=True):
    """Something that happened. New fields get defaults; any other change is a new tag with an upcast in `events.codec`."""


def type_of(fact: Fact) -> str:
    """Return a fact's versioned type, `tool.completed.v1`."""
    return str(fact.__struct_config__.tag)


def name_of(fact: Fact) -> str:
    """Return a fact's name as it stands in subjects, `tool.completed`."""
    return type_of(fact).rpartition(".")[0]


class File(msgspec.Struct, frozen=True, array_like=True):
    """One file of a run: the sha256 of its bytes in the blob store, its mode bits (0o644 or 0o755), its size in bytes."""

    sha: str
    mode: int = 0o644
    size: int = 0


Changes = dict[str, tuple[File | None, File | None]]
"""What a call or a step did to the run's files: path -> (before, after); None is no file."""


class Artifact(msgspec.Struct, frozen=True, omit_defaults=True):
    """A versioned output: a file of the run that a step publishes under its path."""

    name: str
    media_type: str
    sha: str
    size: int
    title: str = ""


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a gate holds against a step."""

    step: str
    message: str
    path: str = ""
    line: int = 0
    severity: str = "medium"


class Verdict(msgspec.Struct, frozen=True, omit_defaults=True):
    """A gate's judgement."""

    passed: bool
    summary: str
    findings: tuple[Finding, ...] = ()


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Tokens that model calls used, as the provider counts them; cost in millionths of a US dollar.

    Tool calls are counted under a budget only.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cost_micros: int = 0
    model_calls: int = 0
    tool_calls: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cache_read_tokens=self.cache_read_tokens + other.cache_read_tokens,
            cache_write_tokens=self.cache_write_tokens + other.cache_write_tokens,
            cost_micros=self.cost_micros + other.cost_micros,
            model_calls=self.model_calls + other.model_calls,
            tool_calls=self.tool_calls + other.tool_calls,
        )


class Wait(msgspec.Struct, frozen=True):
    """What something waits on: approval, question, timer, child, worker or budget; since when (ms since the epoch)."""

    kind: str
    id: str
    since: int
