"""The configuration file, read once. Everyone else receives values.

parse() turns TOML text into a frozen Config or raises ConfigError, whose message names
the file, the line, the key, what is wrong and what is allowed. Nothing starts before.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
)

from model.channels import Channel, EmailChannel, SlackChannel, WebhookChannel
from model.durations import Duration, format_duration, parse_duration
from model.rules import Rules
from model.sizes import Size, format_size, parse_size
from model.targets import Target

Path_ = tuple[str | int, ...]
ReadFile = Callable[[Path], str]

# setting -> the settings that may give its value instead, by reading a file or the environment
_SECRETS = {"target": ("dsn", "canary"), "channel": ("webhook_url", "url", "password")}
_CHANNEL_KINDS: dict[str | int, type[BaseModel]] = {
    "slack": SlackChannel,
    "webhook": WebhookChannel,
    "email": EmailChannel,
}
_BOUNDS = {
    "greater_than_equal": "at least",
    "greater_than": "more than",
    "less_than_equal": "at most",
    "less_than": "less than",
}
_REQUIRED_SECRET = {"slack": "webhook_url", "webhook": "url"}


class ConfigError(Exception):
    """The configuration cannot be used. The message says where and what is allowed."""


class StoreSettings(BaseModel):
    """[store]: where samples, episodes and alerts are kept."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = "sqlite:///headroom.db"  # a relative file is relative to the config file
    keep_samples: Duration = Field(default=7 * 86400.0, ge=60.0)  # seconds; also of sessions
    keep_minutes: Duration = Field(default=30 * 86400.0, ge=3600.0)  # seconds, of 1 min roll-ups
    keep_hours: Duration = Field(default=400 * 86400.0, ge=86400.0)  # seconds, of 1 h roll-ups
    keep_alerts: Duration = Field(default=400 * 86400.0, ge=3600.0)  # seconds after they ended
    max_size: Size = Field(default=20 * 10**9, ge=10**7)
    """Bytes; beyond, the oldest samples go before their time."""
    spool_limit: Size = Field(default=256 * 10**6, ge=10**6)
    """Bytes of samples that wait on disk while the store cannot be written."""

    @field_validator("url")
    @classmethod
    def _sqlite_only(cls, url: str) -> str:
        if not url.startswith("sqlite:///"):
            raise ValueError(
                'only SQLite is supported so far; write "sqlite:///path/to/headroom.db"'
            )
        return url


class HttpSettings(BaseModel):
    """[http]: /healthz, /metrics and /api/v1/status of `headroom run`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    listen: str = "127.0.0.1:4318"

    @field_validator("listen")
    @classmethod
    def _host_and_port(cls, listen: str) -> str:
        host, _, port = listen.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise ValueError(f'{listen!r} is not "host:port"')
        return listen

    @property
    def host(self) -> str:
        """The address to bind, without brackets."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The TCP port to bind."""
        return int(self.listen.rpartition(":")[2])


class DashboardSettings(BaseModel):
    """[dashboard]: where people open it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = "http://localhost:8501"  # for links in messages
    listen: str = "127.0.0.1"  # address to bind

    @field_validator("url")
    @classmethod
    def _http_url(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f'{url!r} is not a URL like "https://headroom.example.internal"')
        return url.rstrip("/")


class AlertSettings(BaseModel):
    """[alerts]: what holds for all rules."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    repeat_interval: Duration = Field(default=4 * 3600.0, ge=60.0)  # seconds between reminders
    retry_for: Duration = Field(default=86400.0, ge=60.0)  # seconds until a message is given up


class Config(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    store: StoreSettings = StoreSettings()
    http: HttpSettings = HttpSettings()
    dashboard: DashboardSettings = DashboardSettings()
    alerts: AlertSettings = AlertSettings()
    rules: Rules = Rules()
    targets: tuple[Target, ...] = Field(default=(), alias="target")
    channels: tuple[Channel, ...] = Field(default=(), alias="channel")

    def target(self, name: str) -> Target:
        """The target called *name*. Raises KeyError."""
        for target in self.targets:
            if target.name == name:
                return target
        raise KeyError(name)

    def poolers_of(self, server: str) -> tuple[Target, ...]:
        """The poolers in front of the postgresql target *server*."""
        return tuple(t for t in self.targets if server in t.serves)


def load(path: Path, env: Mapping[str, str]) -> Config:
    """Read and parse the file at *path*. Raises ConfigError."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot read the configuration: {error.strerror}. "
            "Copy headroom.example.toml and give its path with --config."
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text") from error
    config = parse(text, env, str(path))
    folder = Path(config.store.url.removeprefix("sqlite:///")).parent
    if not folder.is_dir():
        where = f"{path}:{line_of(text, ('store', 'url'))}"
        raise ConfigError(f"{where}: store.url: the folder {str(folder)!r} does not exist")
    return config


def parse(text: str, env: Mapping[str, str], source: str) -> Config:
    """*text* as a Config, with secrets read and relative paths resolved beside *source*.

    Raises ConfigError with one line a mistake: "file:line: key: what is wrong".
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"line (\d+)", str(error))
        where = f"{source}:{line.group(1)}" if line else source
        raise ConfigError(f"{where}: is not valid TOML: {error}") from error
    folder = Path(source).resolve().parent
    mistakes: list[tuple[Path_, str]] = list(_fill_secrets(data, env, folder))
    try:
        config = Config.model_validate(data)
    except ValidationError as error:
        mistakes.extend(_readable(item) for item in error.errors(include_url=False))
    else:
        mistakes.extend(_contradictions(config))
    if mistakes:
        lines = sorted(
            {(line_of(text, path), f"{dotted(path)}: {what}") for path, what in mistakes}
        )
        raise ConfigError("\n".join(f"{source}:{line}: {what}" for line, what in lines))
    database = config.store.url.removeprefix("sqlite:///")
    absolute = config.store.model_copy(update={"url": f"sqlite:///{folder / database}"})
    return config.model_copy(update={"store": absolute})


def dotted(path: Path_) -> str:
    """A key's path as people write it.

    >>> dotted(("target", 0, "interval"))
    'target[0].interval'
    """
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text or "(file)"


def line_of(text: str, path: Path_) -> int:
    """The line of *text* that sets the key at *path*, or its section's line; 1 if neither.

    tomllib reports no positions, so this looks for the section header and then the key.
    """
    lines = text.splitlines()
    names = [part for part in path if isinstance(part, str)]
    occurrence = next((part for part in path if isinstance(part, int)), 0)
    for depth in range(len(names), 0, -1):
        header = re.compile(rf"\s*\[{{1,2}}\s*{re.escape('.'.join(names[:depth]))}\s*\]")
        starts = [i for i, line in enumerate(lines) if header.match(line)]
        if not starts:
            continue
        start = starts[min(occurrence, len(starts) - 1)]
        for name in names[depth : depth + 1]:
            key = re.compile(rf"\s*[\"']?{re.escape(name)}[\"']?\s*[=.]")
            for i in range(start + 1, len(lines)):
                if lines[i].lstrip().startswith("["):
                    break
                if key.match(lines[i]):
                    return i + 1
        return start + 1
    for name in names[:1]:
        for i, line in enumerate(lines):
            if re.match(rf"\s*\[*\s*{re.escape(name)}\b", line):
                return i + 1
    return 1


def _fill_secrets(
    data: dict[str, Any], env: Mapping[str, str], folder: Path
) -> Iterator[tuple[Path_, str]]:
    """Put each secret where its plain setting is, in place; yield what went wrong."""
    for section, settings in _SECRETS.items():
        entries = data.get(section)
        for index, entry in enumerate(entries if isinstance(entries, list) else []):
            if not isinstance(entry, dict):
                continue
            for setting in settings:
                yield from _fill_secret(entry, (section, index), setting, env, folder)
            needed = "dsn" if section == "target" else _REQUIRED_SECRET.get(str(entry.get("kind")))
            sources = [s for s in (needed, f"{needed}_file", f"{needed}_env") if s in entry]
            if needed and not sources:
                yield (
                    (section, index),
                    f"one of '{needed}', '{needed}_file' and '{needed}_env' is required",
                )


def _fill_secret(
    entry: dict[str, Any], at: Path_, setting: str, env: Mapping[str, str], folder: Path
) -> Iterator[tuple[Path_, str]]:
    given = [s for s in (setting, f"{setting}_file", f"{setting}_env") if s in entry]
    if len(given) > 1:
        yield (*at, given[1]), f"give only one of {', '.join(repr(s) for s in given)}"
        return
    file_name, env_name = entry.get(f"{setting}_file"), entry.get(f"{setting}_env")
    if isinstance(file_name, str):
        try:
            entry[setting] = (folder / file_name).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            yield (*at, f"{setting}_file"), f"cannot read {file_name!r}: {reason}"
    elif isinstance(env_name, str):
        if env.get(env_name):
            entry[setting] = env[env_name]
        else:
            yield (
                (*at, f"{setting}_env"),
                (
                    f"the environment variable {env_name!r} is not set; "
                    "set it, or remove this section if you do not need it"
                ),
            )


def _readable(item: Any) -> tuple[Path_, str]:
    """One pydantic error in our words; never with the value of a secret."""
    path = tuple(part for part in item["loc"] if part not in _CHANNEL_KINDS)
    kind = item["type"]
    if kind == "extra_forbidden":
        allowed = _allowed_at(item["loc"])
        close = difflib.get_close_matches(str(path[-1]), allowed, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        return path, f"unknown setting.{hint} Allowed here: {', '.join(allowed)}"
    if kind == "missing":
        return path, "is required"
    if kind in _BOUNDS:
        bound = next(iter(item["ctx"].values()))
        return path, f"must be {_BOUNDS[kind]} {_with_unit(item['loc'], bound)}"
    if kind == "string_pattern_mismatch":
        return path, "may have letters, digits and _ . : - only, a letter or digit first"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return (*path, "kind"), f"must be one of {', '.join(map(repr, _CHANNEL_KINDS))}"
    message = str(item["msg"]).removeprefix("Value error, ")
    return path, message[:1].lower() + message[1:]


def _with_unit(location: Path_, bound: float) -> str:
    """A limit as it would be written for the setting at *location*."""
    fields = _section_at(location).model_fields.items()
    field = next((f for name, f in fields if location[-1] in (name, f.alias)), None)
    reader = (
        next((m.func for m in field.metadata if isinstance(m, BeforeValidator)), None)
        if field
        else None
    )
    if reader is parse_duration:
        return format_duration(bound)
    return format_size(bound) if reader is parse_size else f"{bound:g}"


def _allowed_at(location: Path_) -> list[str]:
    """The settings that are allowed in the section that *location* points into."""
    fields = _section_at(location).model_fields.items()
    return sorted(field.alias or name for name, field in fields)


def _section_at(location: Path_) -> type[BaseModel]:
    """The model of the section that *location* points into."""
    model: type[BaseModel] = Config
    for part in location[:-1]:
        if isinstance(part, int):
            continue
        if part in _CHANNEL_KINDS:
            model = _CHANNEL_KINDS[part]
            continue
        if model is Config and part == "target":
            model = Target
            continue
        if model is Config and part == "channel":
            continue
        for name, field in model.model_fields.items():
            inner = field.annotation
            if (
                part in (name, field.alias)
                and isinstance(inner, type)
                and issubclass(inner, BaseModel)
            ):
                model = inner
                break
    return model


def _contradictions(config: Config) -> Iterator[tuple[Path_, str]]:
    """What no single section can know."""
    yield from _duplicates("target", [target.name for target in config.targets])
    yield from _duplicates("channel", [channel.name for channel in config.channels])
    kinds = {target.name: target.kind for target in config.targets}
    for index, target in enumerate(config.targets):
        for name in target.serves:
            if kinds.get(name) != "postgresql":
                known = ", ".join(n for n, k in kinds.items() if k == "postgresql") or "none"
                yield (
                    ("target", index, "serves"),
                    f"{name!r} is no postgresql target; known: {known}",
                )
    channels = [channel.name for channel in config.channels]
    for rule in type(config.rules).model_fields:
        for name in config.rules.settings(rule).channels or ():
            if name not in channels:
                known = ", ".join(channels) or "none"
                yield ("rules", rule, "channels"), f"{name!r} is no channel; known: {known}"
    for index, channel in enumerate(config.channels):
        if isinstance(channel, EmailChannel):
            if (
                channel.password
                and channel.security == "none"
                and not is_loopback(channel.smtp_host)
            ):
                yield (
                    ("channel", index, "security"),
                    "a password is never sent in clear text; use starttls or tls",
                )
            continue
        setting = "webhook_url" if channel.kind == "slack" else "url"
        secret = getattr(channel, setting)
        if isinstance(secret, SecretStr):
            problem = url_problem(secret.get_secret_value())
            if problem:
                yield ("channel", index, setting), problem


def _duplicates(section: str, names: list[str]) -> Iterator[tuple[Path_, str]]:
    for index, name in enumerate(names):
        if name in names[:index]:
            yield (section, index, "name"), f"{name!r} is used twice; names must be unique"


def url_problem(url: str) -> str | None:
    """Why we would not send to *url*, or None. The URL itself is never repeated: it is a secret."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # urlsplit looks at it only now
    except ValueError:
        return "is not an http(s) URL"
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return "is not an http(s) URL"
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        return "must be https (http is for loopback only)"
    return None


def is_loopback(host: str) -> bool:
    """Whether *host* is this machine by its name or address."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
