"""A rehearsal: a blueprint's steps played by a cassette, with a dict for the run's files and real commands in a folder.

It is no engine: one agent at a time, no log, no sandbox. It shows that a blueprint and its cassette fit together.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import msgspec

from actors.brief import planner_brief, step_brief
from actors.model import Answer, Message, ModelRequest, Text, ToolResult, ToolSchema, ToolUse
from actors.scripted import ScriptedModel
from events.fact import Finding, Verdict
from events.plan import Plan, PlanStep
from gateway.blueprint import RoleFile

ENDINGS = ("finish", "submit_verdict", "submit_plan")
TURNS_MAX = 20


class Rehearsal:
    """Plays steps of a plan. `rejected` is what a human says to every release; empty is yes."""

    def __init__(
        self,
        plan: Plan,
        roles: Mapping[str, RoleFile],
        *,
        model: ScriptedModel,
        folder: Path,
        goal: str,
        files: Mapping[str, str] | None = None,
        rejected: str = "",
    ) -> None:
        self.steps = {step.id: step for step in plan.steps}
        self.roles = roles
        self.model = model
        self.folder = folder
        self.goal = goal
        self.rejected = rejected
        self.files = dict(files or {})
        self.reports: dict[str, str] = {}
        self.artifacts: set[str] = set()
        self.failures: list[str] = []
        self.answers: list[Answer] = []

    async def play(self, key: str, *, attempt: int = 1, findings: tuple[Finding, ...] = ()) -> Verdict | None:
        """Play one attempt at a step to its end; a gate's verdict is what its checks leave of it."""
        step = self.steps[key]
        checks = [(argv, *self.run(argv)) for argv in step.validate] if step.gate else []
        shown = "".join(f"\n$ {' '.join(argv)}\n{text}" for argv, _, text in checks)
        end = await self._converse(step, attempt, opening=self._brief(step, findings) + shown)
        if step.gate:
            verdict = msgspec.convert(end, Verdict)
            return msgspec.structs.replace(verdict, passed=verdict.passed and not any(code for _, code, _ in checks))
        self._check(step)
        self.reports[key] = end["summary"]
        return None

    async def plan(self) -> list[PlanStep]:
        """Let the planner make the plan."""
        roles = {name: role.description for name, role in self.roles.items()}
        step = PlanStep(id="plan", role="planner", task="")
        brief = planner_brief(goal=self.goal, roles=roles, faults="")
        self.roles = {**self.roles, "planner": RoleFile("planner", "", "You plan.", ("submit_plan",))}
        end = await self._converse(step, 1, opening=brief)
        return msgspec.convert(end["steps"], list[PlanStep])

    def _brief(self, step: PlanStep, findings: tuple[Finding, ...]) -> str:
        return step_brief(
            goal=self.goal,
            step=step,
            summaries=self.reports,
            artifacts={},
            paths=sorted(self.files),
            findings=findings,
            conflicts=(),
        )

    async def _converse(self, step: PlanStep, attempt: int, *, opening: str) -> dict[str, Any]:
        role = self.roles[step.role]
        request = ModelRequest(
            model="scripted",
            system=role.prompt,
            messages=(Message(role="user", blocks=(Text(opening),)),),
            tools=tuple(ToolSchema(name, "", {}) for name in role.tools),
            step=step.id,
            role=step.role,
            attempt=attempt,
        )
        for turn in range(1, TURNS_MAX):
            request = msgspec.structs.replace(request, turn=turn)
            answer = await last_of(self.model, request)
            self.answers.append(answer)
            uses = [block for block in answer.blocks if isinstance(block, ToolUse)]
            results = tuple(self._result(step, use) for use in uses)
            ending = next((use for use in uses if use.name in ENDINGS), None)
            if ending is not None and not any(result.failed for result in results):
                return msgspec.json.decode(ending.arguments)
            messages = (Message(role="assistant", blocks=answer.blocks), Message(role="user", blocks=results))
            request = msgspec.structs.replace(request, messages=(*request.messages, *messages))
        raise AssertionError(f"{step.id} did not end")

    def _check(self, step: PlanStep) -> None:
        missing = [path for path in step.expects if path not in self.files]
        assert not missing, f"{step.id} did not leave {missing}"
        for argv in step.validate:
            code, text = self.run(argv)
            assert code == 0, text

    def _result(self, step: PlanStep, use: ToolUse) -> ToolResult:
        assert use.name in self.roles[step.role].tools, f"{step.role} has no {use.name}"
        try:
            text = self._perform(step, use.name, msgspec.json.decode(use.arguments))
        except LookupError as error:
            self.failures.append(f"{step.id}: {use.name}: {error.args[0]}")
            return ToolResult(use=use.id, text=str(error.args[0]), failed=True)
        return ToolResult(use=use.id, text=text)

    def _perform(self, step: PlanStep, tool: str, given: dict[str, Any]) -> str:
        match tool, given:
            case "read_file", {"path": path}:
                return self._read(path)
            case "list_files", {"glob": _}:
                return "\n".join(sorted(self.files))
            case "search_files", {"pattern": pattern, "glob": glob}:
                return self._search(pattern, glob)
            case "write_file", {"path": path, "content": content}:
                return self._write(step, path, content)
            case "save_artifact", {"path": path, "title": _, **rest}:
                self._write(step, path, rest.get("content", self.files.get(path)))
                self.artifacts.add(path)
                return f"saved {path}"
            case "edit_file", {"path": path, "old": old, "new": new}:
                assert self._read(path).count(old) == 1, f"{path} has the old text not once"
                return self._write(step, path, self._read(path).replace(old, new))
            case "run_command", {"argv": argv}:
                code, text = self.run(tuple(argv))
                return f"exit code {code}\n{text}"
            case "publish_release", {"name": name, "version": version, "include": include}:
                if self.rejected:
                    raise LookupError(self.rejected)
                count = sum(any(fnmatch(path, glob) for glob in include) for path in self.files)
                return f"published {name}-{version}.zip with {count} files"
            case (("finish" | "submit_verdict" | "submit_plan"), _):
                return "taken"
            case _:
                raise AssertionError(f"{step.id} asks {tool} with {given}")

    def _read(self, path: str) -> str:
        if path not in self.files:
            raise LookupError(f"not_found: there is no file {path!r}")
        return self.files[path]

    def _search(self, pattern: str, glob: str) -> str:
        lines = (
            f"{path}:{number}: {line}"
            for path, text in sorted(self.files.items())
            if fnmatch(path, glob)
            for number, line in enumerate(text.splitlines(), start=1)
            if pattern in line
        )
        return "\n".join(lines) or "no match"

    def _write(self, step: PlanStep, path: str, content: str) -> str:
        allowed = any(path == place or (place.endswith("/") and path.startswith(place)) for place in step.writes)
        assert allowed, f"{step.id} may not write {path}"
        self.files[path] = content
        return f"wrote {path}"

    def run(self, argv: tuple[str, ...]) -> tuple[int, str]:
        """Run a command on the files as they are; return its exit code and all it said."""
        self.lay_out()
        argv = (sys.executable, *argv[1:]) if argv[0] == "python3" else argv
        # Size and mtime decide whether byte code is stale; an edit in the same second must not go unseen.
        environment = {"PATH": os.defpath, "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            argv, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        return done.returncode, done.stdout + done.stderr

    def lay_out(self) -> None:
        """Write the files into the folder."""
        for path, text in self.files.items():
            place = self.folder / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)


async def last_of(model: ScriptedModel, request: ModelRequest) -> Answer:
    """Return the answer behind the deltas."""
    async for item in model.stream(request):
        if isinstance(item, Answer):
            return item
    raise AssertionError("a stream without an answer")
