"""What looks like a secret is blackened, whoever logs it."""

from __future__ import annotations

import logging

import pytest

from headroom.log import configure, redact
from headroom.secrets_of import secrets_of
from model.config import parse


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://app:s3cret@db/shop",
        "postgresql://app:s3cret%40x@db/shop?sslmode=require",
        "postgresql://app:p@s3cret@db/shop",
        "PGPASSWORD=s3cret psql",
        "{'password': 's3cret', 'user': 'app'}",
        "host=db password=s3cret user=app",
        "host=db password='s3cret with space' user=app",
        "postgresql://db/shop?user=app&password=s3cret&x=1",
        "POST https://hooks.slack.com/services/T0/B0/s3cret failed",
    ],
)
def test_secrets_do_not_pass(text: str) -> None:
    assert "s3cret" not in redact(text)


def test_the_rest_stays_readable() -> None:
    assert redact("shop: no answer in 1.0 s (db:5432)") == "shop: no answer in 1.0 s (db:5432)"


def test_a_traceback_is_redacted_too(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        configure(verbose=False)
        try:
            raise ValueError("password=s3cret")
        except ValueError:
            logging.getLogger("headroom.x").exception("failed")
    finally:
        root.handlers[:], root.level = before
    error = capsys.readouterr().err
    assert "ValueError" in error
    assert "s3cret" not in error


def test_what_is_configured_as_secret_never_passes_wherever_it_stands() -> None:
    text = '[[target]]\nname = "a"\nkind = "postgresql"\ndsn = "host=db password=hunter2222"\n'
    text += '[[channel]]\nname = "c"\nkind = "webhook"\nurl = "https://example.com/hook/t0ken"\n'
    secrets = secrets_of(parse(text, {}, "/etc/headroom.toml"))
    assert (
        redact("tried hunter2222 at https://example.com/hook/t0ken", secrets) == "tried *** at ***"
    )
