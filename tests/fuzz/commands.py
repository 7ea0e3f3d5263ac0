"""Commands that nobody in his right mind would send, and some that anybody would: all from one seed."""

import json
from collections.abc import Mapping
from random import Random
from typing import Any

import msgspec

from gateway.table import ROUTES

VERBS = (
    "cancel", "terminate", "pause", "resume", "child_done", "timer", "nudge", "grant", "raise", "decide",
    "", "CANCEL", "x" * 70, "no_such_verb", "dÃ©cide", "*", ">",
)  # fmt: skip
TOKENS = (
    "-",
    "*",
    ">",
    "run_",
    "RUN",
    "a" * 65,
    "a" * 200,
    "ü",
    "x\u202ey",
    "0",
    "null",
    "..",
    "%00",
    "$JS",
    "_INBOX",
    "stp_1-2",
)
# A `>` in the workspace's place is stored and delivered to nobody; only who may publish to all workspaces can send it.
WORKSPACES = ("default", "other", "*", "_", "a" * 65, "Default", "$SYS")
WORDS = (
    "",
    "x",
    "a" * 300,
    "\u0000",
    "\ud83d",
    "\U0001d54f",
    "run",
    "approve",
    "../../etc/passwd",
    "{}",
    "-1",
    "1e400",
    "nats",
    "é",
)
REPLIES = (
    "cb.default.cmd.x", "$JS.API.STREAM.DELETE.CALLBOARD", "*", ">", "a.*", "a..b", "a b", "a\tb", "x" * 300, "\u00fc", ".",
    "_INBOX.", "\u0000",
)  # fmt: skip
HEADERS = (
    "Nats-Msg-Id",
    "Nats-Rollup",
    "Nats-TTL",
    "Nats-Expected-Last-Sequence",
    "Nats-Schedule",
    "ce-id",
    "ce-type",
    "Status",
    "x" * 100,
)
DEPTH = 5_000
BYTES_MAX = 300_000


class Sent(msgspec.Struct, frozen=True):
    """A message to be sent as a request; an api request is answered by a gateway, a command by the stream and then a worker."""

    subject: str
    body: bytes
    headers: Mapping[str, str]
    is_api: bool = False


class Fuzz:
    """Makes messages. `known` are tokens that stand for something: runs, steps, calls."""

    def __init__(self, seed: int, known: list[tuple[str, str, str]], approvals: list[str]) -> None:
        self.chance = Random(seed)
        self.known = known
        self.approvals = approvals
        self.said: list[Sent] = []

    def next(self) -> Sent:
        """Return the next message."""
        kind = self.chance.random()
        if self.said and kind < 0.15:
            return self.chance.choice(self.said)
        made = self._api() if kind < 0.35 else self._command()
        if len(self.said) < 1000:
            self.said.append(made)
        else:
            self.said[self.chance.randrange(1000)] = made
        return made

    def _command(self) -> Sent:
        chance = self.chance
        workspace = "default" if chance.random() < 0.8 else chance.choice(WORKSPACES)
        tokens = list(chance.choice(self.known)) if chance.random() < 0.7 else [self._token() for _ in range(3)]
        verb = chance.choice(VERBS[:10]) if chance.random() < 0.8 else chance.choice(VERBS)
        if chance.random() < 0.1:
            tokens[chance.randrange(3)] = self._token()
        if chance.random() < 0.03:
            tokens.append(self._token())
        subject = ".".join(part or "_" for part in ("cb", workspace, "cmd", *tokens, verb))
        return Sent(subject, self._body(self._plain(verb)), self._headers())

    def _api(self) -> Sent:
        chance = self.chance
        each = chance.choice([one for one in ROUTES if one.handle is not None])
        workspace = "default" if chance.random() < 0.8 else chance.choice([one for one in WORKSPACES if one != "*"])
        fields: dict[str, Any] = {name: self._value() for name in each.asks.__struct_fields__ if chance.random() < 0.5}
        if "id" in fields:
            fields["id"] = chance.choice([chance.choice(self.known)[0], *self.approvals[:3], self._value()])
        if each.name == "runs.create":
            fields["goal"] = ""  # thousands of good runs would only tell how fast they are
        headers = {"Idempotency-Key": chance.choice(WORDS)} if chance.random() < 0.1 else {}
        body = self._body(fields)
        if each.name == "runs.create" and not body.strip().startswith(b"{"):
            body = b"[]"
        return Sent(f"cb.{workspace}.api.{each.noun}.{each.verb}", body, headers, is_api=True)

    def _plain(self, verb: str) -> dict[str, Any]:
        """Return a body that a command of this verb may have."""
        chance = self.chance
        body: dict[str, Any] = {"id": f"cmd_{chance.randrange(1 << 40)}"}
        match verb:
            case "timer":
                body["timer"] = chance.choice(["retry", "expiry", "cancel", "tmr_x"])
            case "nudge":
                body["floors"] = {"run": chance.randrange(1 << 20), "tool-local": 1}
            case "decide":
                body["decision"] = chance.choice(["approve", "reject", "edit", "respond"])
            case "child_done":
                body["child"] = chance.choice(self.known)[0]
            case "grant":
                body |= {"asked": chance.randrange(50), "grant": {"tokens": chance.randrange(1000)}}
            case "raise":
                body["add"] = {"model_calls": 1}
            case _:
                body["reason"] = chance.choice(WORDS)
        return body

    def _body(self, plain: dict[str, Any]) -> bytes:
        chance = self.chance
        kind = chance.random()
        if kind < 0.25:
            return json.dumps(plain).encode()
        if kind < 0.45:
            plain[chance.choice([*plain, "id", "x", "arguments", "at", "budget"])] = self._value()
            return json.dumps(plain).encode(errors="replace")
        raw = bytearray(json.dumps(plain).encode())
        if kind < 0.6:
            for _ in range(chance.randint(1, 4)):
                raw[chance.randrange(len(raw))] = chance.randrange(256)
            return bytes(raw)
        if kind < 0.7:
            return bytes(raw[: chance.randrange(len(raw))])
        return self._odd(bytes(raw))

    def _odd(self, raw: bytes) -> bytes:
        chance = self.chance
        match chance.randrange(9):
            case 0:
                return b'{"id":"cmd_deep","arguments":' + b"[" * DEPTH + b"]" * DEPTH + b"}"
            case 1:
                return raw[:-1] + b"," + raw[1:]
            case 2:
                return (
                    b'{"id":"cmd_big","reason":"'
                    + b"x" * chance.choice([100, BYTES_MAX if chance.random() < 0.01 else 1000])
                    + b'"}'
                )
            case 3:
                return b'{"id":"cmd_huge","floors":{"run":' + b"9" * 400 + b"}}"
            case 4:
                return chance.randbytes(chance.randrange(64))
            case 5:
                return b""
            case 6:
                return b'{"id":"cmd_nan","at":NaN,"asked":1e999}'
            case 7:
                return json.dumps([raw.decode(errors="replace")]).encode()
            case _:
                return b"\xef\xbb\xbf" + raw

    def _value(self) -> Any:
        chance = self.chance
        return chance.choice(
            [None, True, 0, -1, 1 << 70, 0.5, [], {}, {"a": {"b": []}}, ["x"] * 3, chance.choice(WORDS), self._token()]
        )

    def _token(self) -> str:
        chance = self.chance
        if chance.random() < 0.4:
            return chance.choice(chance.choice(self.known))
        return chance.choice(TOKENS) if chance.random() < 0.5 else f"x{chance.randrange(1 << 30)}"

    def _headers(self) -> dict[str, str]:
        chance = self.chance
        if chance.random() < 0.9:
            return {}
        headers = {chance.choice(HEADERS): chance.choice(WORDS).replace("\n", " ")}
        if chance.random() < 0.5:
            headers["Callboard-Reply"] = chance.choice(REPLIES)
        return headers
