"""The provider of the simulation: answers, delays and failures are drawn when it is asked; strangers' words in a prompt are told."""

from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import msgspec

from actors.model import Answer, Block, Delta, ModelError, ModelRequest, Text, ToolResult, ToolUse
from events.fact import Usage
from tests.simulation.loop import World, pass_time
from tests.simulation.scenario import plan_of

TOOLS: Final = (
    ("peek", 3),
    ("put", 3),
    ("charge", 3),
    ("fire", 3),
    ("ponder", 1.5),
    ("reckon", 1),
    ("spawn", 0.8),
    ("launch", 2),
    ("write_file", 3),
    ("ask_human", 0.5),
    ("nonsense", 0.2),
)
NAMES: Final = [name for name, _ in TOOLS]
WEIGHTS: Final = [weight for _, weight in TOOLS]


class Provider:
    """Answers for every model. `fails` is the chance that a call gives no answer, `turns` how many at most come before an end;
    `foreign` is told of a stranger's words.
    """

    def __init__(self, world: World, *, fails: float, turns: float, foreign: Callable[[str], None]) -> None:
        self.world = world
        self.fails = fails
        self.turns = turns
        self.foreign = foreign
        self.calls = 0

    async def stream(self, request: ModelRequest) -> AsyncIterator[Delta | Answer]:
        """See `actors.model.Model.stream`."""
        random = self.world.random.random
        self._look(request)
        await pass_time(self.world, 20.0)
        if random() < self.fails:
            await self._fail()
        self.calls += 1
        blocks = self._blocks(request)
        uses = any(isinstance(block, ToolUse) for block in blocks)
        usage = Usage(input_tokens=100, output_tokens=10, cost_micros=50)
        yield Answer(blocks=blocks, stop="tool_use" if uses else "end_turn", usage=usage, model=request.model)

    async def _fail(self) -> None:
        draw = self.world.random.random()
        if draw < 0.3:
            raise ModelError("too many", kind="retry_after", code="rate_limited", retry_after_seconds=draw * 30)
        if draw < 0.9:
            raise ModelError("busy", kind="back_off", code="overloaded")
        raise ModelError("no", kind="never", code="bad_request")

    def _look(self, request: ModelRequest) -> None:
        """Each effect's answer names its run: another's must never be read here (I8)."""
        for message in request.messages:
            for block in message.blocks:
                if (
                    isinstance(block, ToolResult)
                    and " of run_" in block.text
                    and f" of {request.run}." not in block.text
                ):
                    self.foreign(f"{request.run} was shown {block.text[:80]}")

    def _blocks(self, request: ModelRequest) -> tuple[Block, ...]:
        random = self.world.random.random
        if random() < 0.03:
            return (Text("I think."),)
        if request.turn > 1 + random() * self.turns or random() < 0.1:
            return (self._end(request),)
        if request.role in ("judge", "planner"):
            return (self._end(request),)
        count = 1 + int(random() ** 2 * 4)
        return tuple(self._use(request, place) for place in range(count))

    def _end(self, request: ModelRequest) -> ToolUse:
        if request.role == "judge":
            passed = self.world.random.random() < 0.6
            findings: list[Any] = [] if passed else [{"step": "a", "message": "mend it"}]
            return _call("submit_verdict", {"passed": passed, "summary": "seen", "findings": findings}, "end")
        if request.role == "planner":
            steps = msgspec.to_builtins(plan_of(self.world.random, 2 if self.turns > 1 else 1).steps)
            if self.world.random.random() < 0.2:
                steps[0]["role"] = "nobody"
            return _call("submit_plan", {"steps": steps}, "end")
        return _call("finish", {"summary": f"done by {request.step}"}, "end")

    def _use(self, request: ModelRequest, place: int) -> ToolUse:
        name = self.world.random.choices(NAMES, WEIGHTS)[0]
        arguments: dict[str, Any] = {"number": request.turn * 10 + place}
        if name == "write_file":
            path = ("x.txt", "y.txt")[int(self.world.random.random() * 2)]
            arguments = {"path": path, "content": f"{request.step} {request.attempt} {request.turn}"}
        elif name == "ask_human":
            arguments = {"question": "why?"}
        elif name == "spawn":
            steps = [{"id": "under", "role": "maker", "task": "do a part"}] if self.world.random.random() < 0.9 else []
            arguments = {"goal": "a part", "steps": steps, "wait": self.world.random.random() < 0.7}
        return _call(name, arguments, str(place))


def _call(name: str, arguments: dict[str, Any], place: str) -> ToolUse:
    return ToolUse(id=f"use_{place}", name=name, arguments=msgspec.Raw(msgspec.json.encode(arguments)))
