"""The configuration file: what is allowed, and what a mistake is told."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from model.channels import EmailChannel, SlackChannel
from model.config import Config, ConfigError, load, parse

ROOT = Path(__file__).resolve().parents[2]

TARGET = '[[target]]\nname = "shop"\nkind = "postgresql"\ndsn = "host=db password=s3cret"\n'
POOL = '[[target]]\nname = "pool"\nkind = "pgbouncer"\ndsn = "host=db"\nserves = ["shop"]\n'
HOOK = '[[channel]]\nname = "hook"\nkind = "webhook"\nurl = "http://127.0.0.1:9/"\n'


def of(text: str, **env: str) -> Config:
    return parse(text, env, "/etc/headroom.toml")


def mistake(text: str, **env: str) -> str:
    with pytest.raises(ConfigError) as caught:
        of(text, **env)
    return str(caught.value)


def test_an_empty_file_is_all_defaults() -> None:
    config = of("")
    assert config.store.url == "sqlite:////etc/headroom.db"  # beside the file
    assert config.http.port == 4318
    assert config.rules.long_statement.warning_seconds == 60


def test_a_poll_has_a_deadline_of_its_interval_within_reason() -> None:
    config = of(TARGET + 'interval = "500ms"\n')
    assert config.targets[0].interval == 0.5
    assert config.targets[0].deadline_seconds == 1.0
    assert of(TARGET + 'interval = "1m"\n').targets[0].deadline_seconds == 5.0


def test_a_pooler_knows_whom_it_serves() -> None:
    config = of(TARGET + POOL)
    assert [target.name for target in config.poolers_of("shop")] == ["pool"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            TARGET + 'intervall = "1s"\n',
            ":5: target[0].intervall: unknown setting. Did you mean 'interval'?",
        ),
        (
            TARGET + 'interval = "1 fortnight"\n',
            ":5: target[0].interval: '1 fortnight' is not a duration",
        ),
        (TARGET + 'interval = "100ms"\n', ":5: target[0].interval: must be at least 200 ms"),
        (TARGET.replace('"shop"', '"my shop"'), ":2: target[0].name: may have letters, digits"),
        (TARGET.replace("host=db password=s3cret", "postgresql://a:b@c/d@host/x"), "%40"),
        (HOOK.replace("webhook", "telegram"), ":3: channel[0].kind: must be one of 'slack'"),
        (HOOK.replace("http://127.0.0.1:9/", "https://[x/"), "is not an http(s) URL"),
        ('[store]\nkeep_alerts = "1000000d"\n', ":2: store.keep_alerts: '1000000d' is longer"),
        (TARGET + "interval = 1\n", ":5: target[0].interval: 1 is not a duration"),
        (TARGET + TARGET, ":6: target[1].name: 'shop' is used twice"),
        (TARGET + POOL.replace('"shop"', '"shpo"'), "'shpo' is no postgresql target; known: shop"),
        (TARGET + 'serves = ["shop"]\n', "'serves' belongs to a pooler"),
        (TARGET + 'processes = ["port=1"]\n', "'processes' belongs to a pgbouncer target"),
        (TARGET + 'canary = "dbname=shop"\n', "'canary' belongs to a pgbouncer, pgcat or"),
        (
            TARGET + POOL.replace("pgbouncer", "pgpool") + 'canary = "dbname=shop"\n',
            "'canary' belongs to a pgbouncer, pgcat or",
        ),
        (TARGET + POOL + 'canary_env = "X"\n', "the environment variable 'X' is not set"),
        ('[[target]]\nname = "x"\nkind = "postgresql"\n', "one of 'dsn', 'dsn_file' and 'dsn_env'"),
        (TARGET + 'dsn_env = "X"\n', ":5: target[0].dsn_env: give only one of"),
        (
            TARGET.replace("postgresql", "oracle"),
            ":3: target[0].kind: input should be 'postgresql'",
        ),
        ("[rules.long_statment]\n", "Did you mean 'long_statement'?"),
        ("[rules.slots_low]\nwarning_ratio = 0.99\n", "'warning_ratio' must not be above"),
        ("[rules.slots_low]\nwarning_ratio = 1.5\n", ":2: rules.slots_low.warning_ratio:"),
        ('[rules.slots_low]\nchannels = ["nobody"]\n', "'nobody' is no channel; known: none"),
        (HOOK.replace("127.0.0.1", "example.com"), ":4: channel[0].url: must be https"),
        (HOOK.replace("http://127.0.0.1:9/", "gopher://x"), "is not an http(s) URL"),
        ('[store]\nurl = "mysql://x"\n', ":2: store.url: only SQLite"),
        ('[http]\nlisten = "4318"\n', ":2: http.listen: '4318' is not \"host:port\""),
        ("[store\n", ":1: is not valid TOML"),
    ],
)
def test_a_mistake_names_the_line_the_key_and_what_is_allowed(text: str, told: str) -> None:
    message = mistake(text)
    assert message.startswith("/etc/headroom.toml:")
    assert told in message


def test_all_mistakes_are_told_at_once() -> None:
    assert len(mistake(TARGET + "a = 1\nb = 2\n").splitlines()) == 2


def test_a_secret_is_never_repeated() -> None:
    message = mistake(TARGET + "oops = 1\n" + HOOK.replace("http://127.0.0.1:9/", "ftp://x/s3cret"))
    assert "s3cret" not in message
    assert "s3cret" not in repr(of(TARGET))


def test_how_processes_and_a_canary_are_reached_is_a_secret_too() -> None:
    text = POOL.replace('serves = ["shop"]', 'processes = ["port=1 password=s3cret"]')
    config = of(text + 'canary_env = "CANARY"\n', CANARY="dbname=shop password=s3cret")
    (target,) = config.targets
    assert target.canary is not None
    assert target.canary.get_secret_value() == "dbname=shop password=s3cret"
    assert target.processes[0].get_secret_value() == "port=1 password=s3cret"
    assert "s3cret" not in repr(target)


def test_secrets_come_from_files_and_the_environment(tmp_path: Path) -> None:
    (tmp_path / "dsn").write_text("host=db password=s3cret\n")
    (tmp_path / "headroom.toml").write_text(
        '[[target]]\nname = "a"\nkind = "postgresql"\ndsn_file = "dsn"\n'
        '[[channel]]\nname = "c"\nkind = "slack"\nwebhook_url_env = "HOOK"\n'
    )
    config = load(tmp_path / "headroom.toml", {"HOOK": "https://hooks.slack.com/services/x"})
    assert config.targets[0].dsn is not None
    assert config.targets[0].dsn.get_secret_value() == "host=db password=s3cret"
    assert isinstance(config.channels[0], SlackChannel)


def test_a_missing_environment_variable_is_named() -> None:
    text = '[[target]]\nname = "a"\nkind = "postgresql"\ndsn_env = "SHOP_DSN"\n'
    assert ":4: target[0].dsn_env: the environment variable 'SHOP_DSN' is not set" in mistake(text)


def test_a_store_without_a_folder_is_named_before_anything_starts(tmp_path: Path) -> None:
    path = tmp_path / "headroom.toml"
    path.write_text('[store]\nurl = "sqlite:///nowhere/x.db"\n')
    with pytest.raises(ConfigError, match=r":2: store\.url: the folder '.*nowhere' does not exist"):
        load(path, {})


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Copy headroom\.example\.toml"):
        load(tmp_path / "none.toml", {})


def test_the_example_is_valid_and_shows_the_defaults(tmp_path: Path) -> None:
    text = (ROOT / "headroom.example.toml").read_text()
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "smtp").write_text("x")
    config = parse(text, {"SLACK_WEBHOOK": "https://x.invalid"}, str(tmp_path / "headroom.toml"))
    defaults = parse("", {}, str(tmp_path / "headroom.toml"))
    for section in ("store", "http", "dashboard", "alerts", "rules"):
        assert getattr(config, section) == getattr(defaults, section), section
    assert isinstance(config.channels[1], EmailChannel)


def test_the_example_shows_every_setting() -> None:
    shown = tomllib.loads((ROOT / "headroom.example.toml").read_text())
    for section in ("store", "http", "dashboard", "alerts"):
        fields = type(getattr(Config(), section)).model_fields
        assert set(shown[section]) == set(fields), section
    assert set(shown["rules"]) == set(type(Config().rules).model_fields)
    common = {"enabled", "severity", "channels"}  # told in the comment above the rules
    for name, rule in shown["rules"].items():
        fields = type(Config().rules.settings(name)).model_fields
        wanted = {field.alias or key for key, field in fields.items()}
        assert wanted - common == set(rule) - common, name
