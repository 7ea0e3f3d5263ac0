"""Settings: read once into one frozen struct, from flags over the environment over TOML files over defaults.

The only reader of the environment. Unknown keys in a file are refused.
"""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec

FILES: Final = (Path("callboard.toml"), Path("~/.config/callboard/config.toml"))
BUDGET_USD_MAX: Final = 1_000_000_000
LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


class SettingsError(Exception):
    """A setting that cannot be used: names its source, the key, the rule and the way out."""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All settings; the comment beside each names its environment variable where the name differs from CALLBOARD_<FIELD>."""

    home: str = ".callboard"
    nats_url: str = ""  # or NATS_URL; empty: the embedded server
    database_url: str = ""  # empty: the embedded server
    nats_creds: str = ""  # NATS_CREDS
    nats_server_bin: str = ""
    api_url: str = ""
    api_key: str = ""
    workspace: str = "default"
    host: str = "127.0.0.1"
    port: int = 8765
    model: str = "scripted"
    cassette: str = ""
    anthropic_api_key: str = ""  # ANTHROPIC_API_KEY
    anthropic_base_url: str = ""  # ANTHROPIC_BASE_URL
    max_agents: int = 16
    max_tools: int = 32
    approval_policy: Literal["auto", "risky", "all"] = "risky"
    approval_seconds: int = 0
    budget_usd: Annotated[float, msgspec.Meta(ge=0, le=BUDGET_USD_MAX)] = 0.0  # of a run that names none; 0: no limit
    script_speed: float = 1.0
    tools: tuple[str, ...] = ()  # with commas: package.module:tool
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["text", "json"] = "json"
    replicas: int = 1
    log_bytes_max: int = 0  # what the log may take; 0: as much as the disk has
    ack_wait_seconds: float = 3.0
    drain_seconds: float = 10.0
    otel: dict[str, str] = {}  # OTEL_*

    @property
    def data(self) -> Path:
        """The data folder, absolute."""
        return Path(self.home).expanduser().absolute()

    @property
    def loopback(self) -> bool:
        """Whether the gateway listens on this machine only."""
        return self.host in LOOPBACK


class Terminal(msgspec.Struct, frozen=True):
    """What the environment says about the terminal; NO_COLOR counts if it is not empty, so does FORCE_COLOR."""

    no_color: bool = False
    force_color: bool = False
    dumb: bool = False
    ci: bool = False


_ALIASES: Final[Mapping[str, str]] = {
    "NATS_URL": "nats_url",
    "NATS_CREDS": "nats_creds",
    "ANTHROPIC_API_KEY": "anthropic_api_key",
    "ANTHROPIC_BASE_URL": "anthropic_base_url",
}


def load_settings(
    flags: Mapping[str, Any] | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    files: tuple[Path, ...] = FILES,
) -> Settings:
    """Return the settings; `flags` that are None do not count. Raises SettingsError naming source, key and rule."""
    environment = os.environ if environment is None else environment
    merged: dict[str, Any] = {}
    for path in reversed(files):
        merged |= _from_file(path.expanduser())
    merged |= _from_environment(environment)
    merged |= {key: value for key, value in (flags or {}).items() if value is not None}
    try:
        return msgspec.convert(merged, Settings, strict=False)
    except msgspec.ValidationError as fault:
        raise SettingsError(_worded(str(fault))) from None


def _worded(fault: str) -> str:
    """Say which setting is wrong by the names people set it by."""
    rule, found, key = fault.partition(" - at `$.")
    field = key.rstrip("`")
    if not found or field not in Settings.__struct_fields__:
        return f"settings: {fault}; see `callboard config show` for names and values"
    names = {alias for alias, name in _ALIASES.items() if name == field} | {f"CALLBOARD_{field.upper()}"}
    return f"{' or '.join(sorted(names))} ({field} in a file): {rule[0].lower()}{rule[1:]}"


def load_terminal(environment: Mapping[str, str] | None = None) -> Terminal:
    """Return what NO_COLOR, FORCE_COLOR, TERM and CI say."""
    environment = os.environ if environment is None else environment
    return Terminal(
        no_color=bool(environment.get("NO_COLOR")),
        force_color=environment.get("FORCE_COLOR", "") not in ("", "0"),
        dumb=environment.get("TERM") == "dumb",
        ci=environment.get("CI", "").lower() in ("1", "true"),
    )


def _from_file(path: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as fault:
        raise SettingsError(f"{path}: {fault}") from None
    unknown = sorted(set(values) - set(Settings.__struct_fields__))
    if unknown:
        known = ", ".join(Settings.__struct_fields__)
        raise SettingsError(f"{path}: unknown key {unknown[0]!r}; known keys: {known}")
    return values


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, field in _ALIASES.items():
        if environment.get(name):
            found[field] = environment[name]
    for field in Settings.__struct_fields__:
        name = f"CALLBOARD_{field.upper()}"
        if field != "otel" and environment.get(name):
            found[field] = _split(environment[name]) if field == "tools" else environment[name]
    found["otel"] = {name: value for name, value in environment.items() if name.startswith("OTEL_")}
    return found


def _split(value: str) -> list[str]:
    return [part.strip() for part in value.split(",") if part.strip()]
