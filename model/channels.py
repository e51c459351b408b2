"""The [[channel]] section: whom we tell."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from model.durations import Duration

Security = Literal["starttls", "tls", "none"]
Severities = tuple[Literal["warning", "critical"], ...]


class _Channel(BaseModel):
    """What all channels have."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    name: str = Field(min_length=1, max_length=100)
    severities: Severities = ("warning", "critical")  # which alerts this channel is told of
    send_resolved: bool = True
    timeout: Duration = Field(default=10.0, gt=0.0, le=120.0)  # seconds for one delivery


class SlackChannel(_Channel):
    """A Slack incoming webhook."""

    kind: Literal["slack"]
    webhook_url: SecretStr | None = None
    webhook_url_file: str | None = None
    webhook_url_env: str | None = None


class WebhookChannel(_Channel):
    """An HTTP endpoint that takes our documented JSON (docs/webhook.md)."""

    kind: Literal["webhook"]
    url: SecretStr | None = None
    url_file: str | None = None
    url_env: str | None = None


class EmailChannel(_Channel):
    """A mail server that takes our messages."""

    kind: Literal["email"]
    smtp_host: str
    smtp_port: int = Field(default=587, ge=1, le=65535)
    security: Security = "starttls"
    username: str | None = None
    password: SecretStr | None = None
    password_file: str | None = None
    password_env: str | None = None
    sender: str = Field(alias="from", min_length=3)
    to: tuple[str, ...] = Field(min_length=1)


Channel = Annotated[SlackChannel | WebhookChannel | EmailChannel, Field(discriminator="kind")]
