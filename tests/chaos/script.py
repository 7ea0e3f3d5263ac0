"""What the runs of a campaign do: plans of one to three steps, whose tasks name their calls, and the cassette that makes them.

A task's line `1 charge 0.8 k` is a call of `charge` in the agent's first turn that takes 0.8 s; `k` tells it from the step's others.
"""

import random
from typing import Any

TOOLS = ("look", "place", "charge", "launch", "ship", "sign")
WEIGHTS = (18, 12, 30, 15, 13, 12)
ROLE = "hand"
LONG = 12.0


def cassette(port: int) -> dict[str, Any]:
    """Return the cassette, as YAML would hold it; `port` is the target's."""
    return {
        "delay": 0,
        "steps": [
            {"when": {"matches": r"(?m)^2 "}, "turns": [_turn(1, port), _turn(2, port), _end()]},
            {"turns": [_turn(1, port), _end()]},
        ],
    }


def _turn(number: int, port: int) -> dict[str, Any]:
    return {"calls": [_calls(number, tool, port) for tool in TOOLS]}


def _calls(number: int, tool: str, port: int) -> dict[str, Any]:
    return {
        "tool": tool,
        "for_each": {"find": rf"(?m)^{number} {tool} (?P<seconds>\S+) (?P<mark>\S+)$"},
        "arguments": {"port": str(port), "op": "${run}/${step}/${attempt}/${mark}", "seconds": "${seconds}"},
    }


def _end() -> dict[str, Any]:
    return {"calls": [{"tool": "finish", "arguments": {"summary": "${step} was played"}}]}


def plan(dice: random.Random) -> dict[str, Any]:
    """Return the blueprint of a run: one to three steps, at once or one after the other."""
    keys = ["one", "two", "three"][: dice.choice((1, 1, 2, 3))]
    chained = dice.random() < 0.5
    steps = [
        {"id": key, "role": ROLE, "task": _task(dice), "needs": keys[place - 1 : place] if chained and place else []}
        for place, key in enumerate(keys)
    ]
    return blueprint(steps)


def blueprint(steps: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a blueprint of these steps, all of them done by the one role there is."""
    tools = [*TOOLS, "finish"]
    role = {"name": ROLE, "description": "does it", "prompt": "Do what the task says.", "tools": tools}
    return {"name": "chaos", "steps": steps, "roles": [role]}


def _task(dice: random.Random) -> str:
    turns = dice.choice((1, 1, 2))
    lines = [_line(dice, turn, mark) for turn in range(1, turns + 1) for mark in range(dice.choice((1, 1, 2, 3)))]
    return "\n".join(["Do:", *lines])


def _line(dice: random.Random, turn: int, mark: int) -> str:
    tool = dice.choices(TOOLS, WEIGHTS)[0]
    seconds = LONG if dice.random() < 0.03 else round(dice.uniform(0.02, 2.0), 2)
    return f"{turn} {tool} {seconds} {turn}{mark}"
