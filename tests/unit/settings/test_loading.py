"""From the environment to settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.errors import ExitCode, SettingsError
from supervisor.settings import Settings, load
from supervisor.settings.__main__ import document

TOKEN = "0123456789abcdef0123"
ACCOUNT = "0123456789abcdef0123456789abcdef"
R2 = {"R2_ACCESS_KEY_ID": "key-id", "R2_SECRET_ACCESS_KEY": "the-secret-key", "CF_ACCOUNT_ID": ACCOUNT}


def read(environ: dict[str, str], *, is_root: bool = False, in_image: bool = False) -> Settings:
    return load(environ, cwd=Path("/somewhere"), is_root=is_root, in_image=in_image)


def complaint(environ: dict[str, str], **flags: bool) -> str:
    with pytest.raises(SettingsError) as caught:
        read(environ, **flags)
    assert caught.value.exit_code is ExitCode.SETTINGS
    return caught.value.message


def test_nothing_set_gives_a_local_bucket_on_loopback() -> None:
    settings = read({})
    assert settings.bucket.url == "file:///somewhere/.moltinit/bucket"
    assert (settings.listen_host, settings.listen_port) == ("127.0.0.1", 8080)
    assert settings.auth == "none"
    assert settings.agent == "openclaw"
    assert settings.stop_grace == 25.0


def test_root_keeps_its_data_under_var() -> None:
    settings = read({}, is_root=True)
    assert settings.home == Path("/var/lib/moltinit")
    assert settings.agent_home == Path("/var/lib/moltinit/agent")


def test_in_the_image_it_listens_everywhere_and_so_needs_a_token() -> None:
    assert "MOLTINIT_OPERATOR_TOKEN" in complaint({}, in_image=True)
    settings = read({"MOLTBOT_GATEWAY_TOKEN": TOKEN}, in_image=True)
    assert (settings.listen_host, settings.auth) == ("0.0.0.0", "token")


def test_the_r2_secrets_name_bucket_and_endpoint() -> None:
    bucket = read(R2).bucket
    assert bucket.url == "s3://moltbot-data"
    assert bucket.endpoint_url == f"https://{ACCOUNT}.r2.cloudflarestorage.com"
    assert bucket.secret_access_key is not None
    assert bucket.secret_access_key.reveal() == "the-secret-key"


@pytest.mark.parametrize("missing", ["R2_ACCESS_KEY_ID", "R2_SECRET_ACCESS_KEY", "CF_ACCOUNT_ID"])
def test_two_of_the_three_r2_secrets_are_an_error_that_names_the_third(missing: str) -> None:
    message = complaint({name: value for name, value in R2.items() if name != missing})
    assert missing in message
    assert "the-secret-key" not in message


def test_an_account_alone_is_no_wish_for_r2() -> None:
    assert read({"CF_ACCOUNT_ID": ACCOUNT}).bucket.url.startswith("file://")


def test_an_explicit_bucket_wins_over_r2() -> None:
    bucket = read({**R2, "MOLTINIT_BUCKET_URL": "s3://mine/agent/"}).bucket
    assert bucket.url == "s3://mine/agent"
    assert bucket.access_key_id == "key-id"


def test_an_s3_bucket_without_keys_is_an_error() -> None:
    assert "AWS_ACCESS_KEY_ID" in complaint({"MOLTINIT_BUCKET_URL": "s3://mine"})


def test_an_unknown_variable_of_ours_is_an_error_with_a_suggestion() -> None:
    message = complaint({"MOLTINIT_STOP_GRAVE": "25s"})
    assert "MOLTINIT_STOP_GRAVE" in message
    assert "MOLTINIT_STOP_GRACE" in message


@pytest.mark.parametrize(
    ("name", "value", "right"),
    [
        ("MOLTINIT_STOP_GRACE", "25", "25"),
        ("MOLTINIT_STOP_GRACE", "-1s", "duration"),
        ("MOLTINIT_LISTEN", "8080", "HOST:PORT"),
        ("MOLTINIT_LISTEN", "127.0.0.1:99999", "65535"),
        ("MOLTINIT_AGENT", "other", "openclaw, echo"),
        ("MOLTINIT_BUCKET_URL", "http://x", "s3://"),
        ("MOLTINIT_BUCKET_URL", "s3://Upper_Case", "lower-case"),
        ("MOLTINIT_AGENT_PORT", "0", "65535"),
        ("CF_ACCOUNT_ID", "my-account", "32 hexadecimal"),
        ("TELEGRAM_DM_POLICY", "everyone", "pairing"),
        ("DEV_MODE", "maybe", "true or false"),
        ("WORKER_URL", "http://claw.example.com", "https"),
        ("CF_ACCESS_TEAM_DOMAIN", "http://team.example.com", "https"),
        ("MOLTINIT_PUBLIC_PATHS", "hooks", "/hooks/telegram"),
        ("MOLTINIT_PUBLIC_PATHS", "/hooks/", "/hooks/*"),
        ("MOLTINIT_PUBLIC_PATHS", "/*", "front door"),
        ("MOLTINIT_PUBLIC_PATHS", "/", "/hooks/telegram"),
        ("MOLTINIT_PUBLIC_PATHS", "/a*", "differently"),
        ("MOLTINIT_PUBLIC_PATHS", "/a/*/b", "differently"),
        ("MOLTINIT_PUBLIC_PATHS", "/a//b", "differently"),
        ("MOLTINIT_PUBLIC_PATHS", "/a/../b", "differently"),
        ("MOLTINIT_PUBLIC_PATHS", "/%61", "differently"),
        ("MOLTINIT_PUBLIC_PATHS", "/a?b", "differently"),
        ("MOLTINIT_PUBLIC_PATHS", "/_admin/x", "front door"),
        ("MOLTINIT_PUBLIC_PATHS", "/API/*", "front door"),
        ("MOLTINIT_PUBLIC_PATHS", "/status", "front door"),
    ],
)
def test_a_bad_value_is_named_with_what_would_be_right(name: str, value: str, right: str) -> None:
    message = complaint({name: value})
    assert name in message
    assert repr(value) in message
    assert right in message


def test_public_paths_are_a_list_and_none_by_default() -> None:
    assert read({}).public_paths == ()
    assert read({"MOLTINIT_PUBLIC_PATHS": "/hooks/telegram, /slack/*"}).public_paths == ("/hooks/telegram", "/slack/*")


def test_a_bad_secret_is_named_but_not_shown() -> None:
    message = complaint({"MOLTINIT_OPERATOR_TOKEN": "short-one"})
    assert "MOLTINIT_OPERATOR_TOKEN" in message
    assert "short-one" not in message


def test_all_problems_are_told_at_once() -> None:
    message = complaint({"MOLTINIT_STOP_GRACE": "x", "MOLTINIT_AGENT": "y", "MOLTINIT_NO_SUCH": "z"})
    assert all(name in message for name in ("MOLTINIT_STOP_GRACE", "MOLTINIT_AGENT", "MOLTINIT_NO_SUCH"))


def test_an_empty_value_counts_as_not_set() -> None:
    assert read({"MOLTINIT_STOP_GRACE": "", "R2_ACCESS_KEY_ID": " "}).stop_grace == 25.0


@pytest.mark.parametrize(
    ("environ", "auth"),
    [
        ({}, "none"),
        ({"MOLTBOT_GATEWAY_TOKEN": TOKEN}, "token"),
        ({"OPENCLAW_GATEWAY_TOKEN": TOKEN}, "token"),
        ({"MOLTINIT_OPERATOR_TOKEN": TOKEN}, "token"),
        ({"CF_ACCESS_TEAM_DOMAIN": "team.cloudflareaccess.com", "CF_ACCESS_AUD": "aud"}, "access"),
    ],
)
def test_who_may_enter_follows_from_what_is_set(environ: dict[str, str], auth: str) -> None:
    assert read(environ).auth == auth


def test_nobody_in_particular_may_not_enter_from_outside() -> None:
    message = complaint({"MOLTINIT_LISTEN": "0.0.0.0:8080", "DEV_MODE": "true"})
    assert "MOLTINIT_LISTEN" in message


def test_the_team_domain_is_accepted_with_and_without_a_scheme() -> None:
    for text in ("team.cloudflareaccess.com", "https://team.cloudflareaccess.com/"):
        settings = read({"CF_ACCESS_TEAM_DOMAIN": text, "CF_ACCESS_AUD": "one,two"})
        assert settings.access_team_domain == "https://team.cloudflareaccess.com"
        assert settings.access_audiences == ("one", "two")


@pytest.mark.parametrize(
    "environ",
    [
        {"CF_ACCESS_AUD": "x"},
        {"AI_GATEWAY_API_KEY": "x"},
        {"SLACK_BOT_TOKEN": "x"},
        {"CLOUDFLARE_AI_GATEWAY_API_KEY": "x", "CF_AI_GATEWAY_ACCOUNT_ID": ACCOUNT},
        {"AWS_ACCESS_KEY_ID": "x"},
    ],
)
def test_half_a_group_is_an_error(environ: dict[str, str]) -> None:
    assert "all of them, or none" in complaint(environ)


def test_the_agents_variables_are_handed_on_wrapped() -> None:
    settings = read({"ANTHROPIC_API_KEY": "sk-ant-1234567", "TELEGRAM_DM_POLICY": "open"})
    assert "ANTHROPIC_API_KEY" not in settings.agent_variables, "the agent gets no key"
    assert settings.broker.keys["ANTHROPIC_API_KEY"].reveal() == "sk-ant-1234567"
    assert "sk-ant-1234567" in settings.secrets()
    assert settings.agent_variables["TELEGRAM_DM_POLICY"].reveal() == "open"
    assert "sk-ant" not in repr(settings)
    assert "sk-ant" not in f"{settings.agent_variables}"


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"MOLTINIT_BUDGET_DOLLARS_PER_DAY": "5"}, "MOLTINIT_PRICES"),
        ({"MOLTINIT_BUDGET_TOKENS_PER_DAY": "0"}, "above 0"),
        ({"MOLTINIT_BUDGET_SOFT": "1.5"}, "up to 1"),
        ({"CF_AI_GATEWAY_TOKEN": "t"}, "CF_AI_GATEWAY_ACCOUNT_ID"),
        ({"CF_AI_GATEWAY_ACCOUNT_ID": "0" * 32, "CF_AI_GATEWAY_GATEWAY_ID": "g"}, "CF_AI_GATEWAY_TOKEN"),
        ({"ANTHROPIC_API_KEY": "k", "ANTHROPIC_BASE_URL": "http://proxy.example"}, "plain http"),
        ({"WORKERS_AI_API_TOKEN": "t", "WORKERS_AI_MODEL": "m"}, "CF_ACCOUNT_ID"),
        ({"MOLTINIT_BROWSER_URL": "ws://elsewhere.example"}, "plain http"),
        ({"MOLTINIT_BROWSER_TOKEN": "t"}, "CF_ACCOUNT_ID"),
        ({"CDP_SECRET": "s"}, "WORKER_URL"),
    ],
)
def test_what_the_broker_cannot_work_with_is_found_before_anything_starts(variables: dict[str, str], told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        read(variables)


def test_the_brokers_port_follows_the_agents() -> None:
    assert read({}).broker.port == 18790
    assert read({"MOLTINIT_AGENT_PORT": "4000"}).broker.port == 4001
    assert not read({}).broker.insist
    assert read({"MOLTINIT_BROKER_PORT": "4444"}).broker.insist


def test_a_file_comes_second(tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text('stop_grace = "40s"\nagent = "echo"\nexclude = ["*.iso", "big/"]\n')
    settings = load(
        {"MOLTINIT_CONFIG": "m.toml", "MOLTINIT_AGENT": "openclaw"}, cwd=tmp_path, is_root=False, in_image=False
    )
    assert settings.stop_grace == 40.0
    assert settings.agent == "openclaw"
    assert settings.exclude == ("*.iso", "big/")


def test_a_file_that_is_wrong_is_told_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text('stop_grase = "40s"\n')
    with pytest.raises(SettingsError, match="stop_grace"):
        load({"MOLTINIT_CONFIG": "m.toml"}, cwd=tmp_path, is_root=False)
    with pytest.raises(SettingsError, match=r"missing\.toml"):
        load({"MOLTINIT_CONFIG": "missing.toml"}, cwd=tmp_path, is_root=False)


def test_the_agents_home_may_not_hold_the_daemons_own_files() -> None:
    assert "MOLTINIT_AGENT_HOME" in complaint({"MOLTINIT_AGENT_HOME": "/somewhere"})


def test_every_setting_says_where_it_came_from_and_hides_secrets() -> None:
    rows = {row.name: row for row in read(R2).described}
    assert rows["R2_SECRET_ACCESS_KEY"].value == "***"
    assert rows["R2_SECRET_ACCESS_KEY"].origin == "environment R2_SECRET_ACCESS_KEY"
    assert rows["MOLTINIT_STOP_GRACE"].value == "25s"
    assert rows["MOLTINIT_STOP_GRACE"].origin == "default"
    assert rows["MOLTINIT_BUCKET_URL"].value == "s3://moltbot-data"


def test_the_documentation_lists_the_settings_as_they_are() -> None:
    page = Path(__file__).parents[3] / "docs" / "settings.md"
    assert page.read_text() == document(), "run: python -m supervisor.settings > docs/settings.md"


ACCESS = {"CF_ACCESS_TEAM_DOMAIN": "team.cloudflareaccess.com", "CF_ACCESS_AUD": "aud"}


def test_beside_access_only_a_token_counts_that_was_set_for_that() -> None:
    gateway_only = read({**ACCESS, "MOLTBOT_GATEWAY_TOKEN": TOKEN})
    assert gateway_only.operator_token is None
    assert TOKEN in gateway_only.secrets()
    explicit = read({**ACCESS, "MOLTINIT_OPERATOR_TOKEN": TOKEN}).operator_token
    assert explicit is not None
    assert explicit.reveal() == TOKEN


def test_operators_can_be_told_apart_with_access_only() -> None:
    settings = read({**ACCESS, "MOLTINIT_OPERATORS": "alice@example.com, bot.access"})
    assert settings.operators == ("alice@example.com", "bot.access")
    assert "MOLTINIT_OPERATORS" in complaint({"MOLTINIT_OPERATORS": "alice@example.com"})
    assert "MOLTINIT_OPERATORS" in complaint({"MOLTINIT_OPERATORS": "a@b.c", "MOLTINIT_OPERATOR_TOKEN": TOKEN})


@pytest.mark.parametrize(
    ("environ", "origins"),
    [
        ({}, ("http://localhost:8080", "http://127.0.0.1:8080")),
        ({"MOLTINIT_LISTEN": "0.0.0.0:80", "MOLTINIT_OPERATOR_TOKEN": TOKEN}, ()),
        (
            {"MOLTINIT_LISTEN": "0.0.0.0:80", "WORKER_URL": "https://claw.example.com/x", **ACCESS},
            ("https://claw.example.com", "http://localhost:80", "http://127.0.0.1:80"),
        ),
    ],
)
def test_the_agents_page_has_origins_unless_nobody_knows_them(
    environ: dict[str, str], origins: tuple[str, ...]
) -> None:
    assert read(environ).agent_origins == origins


def test_beside_access_a_token_that_the_agent_knows_makes_nobody_an_operator() -> None:
    access = {"CF_ACCESS_TEAM_DOMAIN": "team.cloudflareaccess.com", "CF_ACCESS_AUD": "aud"}
    shared = {**access, "MOLTBOT_GATEWAY_TOKEN": "t" * 20, "MOLTINIT_OPERATOR_TOKEN": "t" * 20}
    assert read(shared).operator_token is None
    token = read({**shared, "MOLTINIT_OPERATOR_TOKEN": "o" * 20}).operator_token
    assert token is not None
    assert token.reveal() == "o" * 20
