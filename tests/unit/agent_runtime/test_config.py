"""OpenClaw's config, shared by the operator, the user and the agent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent_runtime.contract import AgentSettings, Brokered, ModelEndpoint, RuntimeFault
from agent_runtime.openclaw.config import configure
from supervisor.broker.providers import providers

ANTHROPIC = {"ANTHROPIC_API_KEY": "sk-ant-hidden-value"}


class Home:
    """A HOME with a config."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.path = place / ".openclaw" / "openclaw.json"
        self.path.parent.mkdir(parents=True)

    @property
    def config(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.path.read_text())
        return document

    def write(self, config: object) -> None:
        self.path.write_text(config if isinstance(config, str) else json.dumps(config))

    def configure(  # type: ignore[no-untyped-def]
        self,
        variables: dict[str, str] | None = None,
        *,
        token: str | None = None,
        port: int = 18789,
        broker_port: int = 18790,
        browser_url: str | None = None,
    ):
        variables = variables or {}
        models = tuple(
            ModelEndpoint(
                provider.name, provider.dialect.value, provider.local_url(broker_port), provider.model, provider.named
            )
            for provider in providers(variables)
        )
        broker = Brokered(f"http://127.0.0.1:{broker_port}", "hidden-broker-token", models, browser_url)
        return configure(
            AgentSettings(self.place, self.place / "scratch", port, token, variables=variables, broker=broker)
        )


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_a_fresh_config_can_start_a_gateway_on_loopback(home: Home) -> None:
    home.configure(ANTHROPIC)
    assert home.config["gateway"]["mode"] == "local"
    assert home.config["gateway"]["bind"] == "loopback"
    assert home.config["gateway"]["auth"]["mode"] == "trusted-proxy"
    assert home.config["agents"]["defaults"]["model"]["primary"].startswith("anthropic/")
    assert home.path.stat().st_mode & 0o777 == 0o600


def test_no_secret_stands_in_the_config(home: Home) -> None:
    home.configure({**ANTHROPIC, "TELEGRAM_BOT_TOKEN": "123:hidden-value"}, token="gateway-hidden-value")
    text = "".join(path.read_text() for path in home.place.rglob("*") if path.is_file())
    assert "hidden" not in text
    assert home.config["models"]["providers"]["anthropic"]["apiKey"]["id"] == "MOLTINIT_BROKER_TOKEN"
    assert set(home.config["gateway"]["auth"]) == {"mode", "identityScopes", "trustedProxy"}


def test_nothing_changed_is_nothing_written(home: Home) -> None:
    assert home.configure(ANTHROPIC).changed
    before = home.path.stat().st_mtime_ns
    assert home.configure(ANTHROPIC).changed == ()
    assert home.path.stat().st_mtime_ns == before


def test_what_the_user_changed_stays(home: Home) -> None:
    home.configure(ANTHROPIC)
    config = home.config
    config["agents"]["defaults"]["model"]["primary"] = "anthropic/claude-opus-5"
    config["agents"]["defaults"]["heartbeat"] = {"every": "1h"}
    home.write(config)
    home.configure(ANTHROPIC)
    assert home.config["agents"]["defaults"]["model"]["primary"] == "anthropic/claude-opus-5"
    assert home.config["agents"]["defaults"]["heartbeat"] == {"every": "1h"}


def test_what_the_front_door_depends_on_is_enforced(home: Home) -> None:
    home.configure()
    config = home.config
    config["gateway"].update({"bind": "lan", "port": 1, "auth": {"mode": "none"}, "trustedProxies": ["10.0.0.0/8"]})
    home.write(config)
    report = home.configure(token="a-token-0123456789")
    assert home.config["gateway"]["bind"] == "loopback"
    assert home.config["gateway"]["port"] == 18789
    assert home.config["gateway"]["auth"]["mode"] == "trusted-proxy"
    assert home.config["gateway"]["trustedProxies"] == ["127.0.0.1", "::1"]
    assert "gateway.bind" in report.changed


def test_what_the_operator_changed_takes_effect_over_what_the_user_made_of_it(home: Home) -> None:
    telegram = {"TELEGRAM_BOT_TOKEN": "123:x", "TELEGRAM_DM_POLICY": "disabled"}
    home.configure(telegram)
    config = home.config
    config["channels"]["telegram"]["dmPolicy"] = "pairing"
    home.write(config)
    home.configure(telegram)
    assert home.config["channels"]["telegram"]["dmPolicy"] == "pairing"
    home.configure({**telegram, "TELEGRAM_DM_POLICY": "allowlist"})
    assert home.config["channels"]["telegram"]["dmPolicy"] == "allowlist"


def test_a_provider_leads_to_the_broker_whatever_the_config_says(home: Home) -> None:
    left_over = {"baseUrl": "https://api.anthropic.com", "apiKey": "sk-ant-of-another-time", "models": []}
    home.write({"models": {"providers": {"anthropic": left_over, "mine": {"baseUrl": "https://mine.example"}}}})
    home.configure(ANTHROPIC)
    found = home.config["models"]["providers"]
    assert found["anthropic"]["baseUrl"] == "http://127.0.0.1:18790/anthropic"
    assert found["anthropic"]["api"] == "anthropic-messages"
    assert "sk-ant" not in home.path.read_text()
    assert found["mine"] == {"baseUrl": "https://mine.example"}
    home.configure(ANTHROPIC, broker_port=4000)
    assert home.config["models"]["providers"]["anthropic"]["baseUrl"] == "http://127.0.0.1:4000/anthropic"


def test_the_browser_is_the_brokers_and_its_token_is_in_the_environment_alone(home: Home) -> None:
    home.configure(browser_url="http://127.0.0.1:18790/browser")
    profile = home.config["browser"]["profiles"]["remote"]
    assert profile == {
        "cdpUrl": "http://127.0.0.1:18790/browser?token=${MOLTINIT_BROKER_TOKEN}",
        "attachOnly": True,
    }
    assert home.config["browser"]["defaultProfile"] == "remote"
    home.configure()
    assert "profiles" not in home.config.get("browser", {})


def test_what_the_operator_took_away_goes_unless_somebody_made_it_his_own(home: Home) -> None:
    home.configure({**ANTHROPIC, "TELEGRAM_BOT_TOKEN": "123:x", "DISCORD_BOT_TOKEN": "y", "DISCORD_DM_POLICY": "open"})
    config = home.config
    config["channels"]["discord"]["dmPolicy"] = "allowlist"
    home.write(config)
    home.configure(ANTHROPIC)
    assert "telegram" not in home.config["channels"]
    assert home.config["channels"]["discord"] == {"dmPolicy": "allowlist"}


def test_a_config_that_cannot_be_read_is_left_alone(home: Home) -> None:
    home.write("{ this is not json")
    with pytest.raises(RuntimeFault, match=r"openclaw\.json"):
        home.configure(ANTHROPIC)
    assert home.path.read_text() == "{ this is not json"


def test_json5_is_read(home: Home) -> None:
    home.write("// mine\n{agents: {defaults: {heartbeat: {every: '2h'}}},}")
    home.configure(ANTHROPIC)
    assert home.config["agents"]["defaults"]["heartbeat"] == {"every": "2h"}


def test_the_config_of_the_older_name_is_adopted(home: Home) -> None:
    home.path.with_name("clawdbot.json").write_text(json.dumps({"logging": {"level": "debug"}}))
    report = home.configure(ANTHROPIC)
    assert home.config["logging"]["level"] == "debug"
    assert not home.path.with_name("clawdbot.json").exists()
    assert any("clawdbot.json" in note for note in report.notes)


def test_paths_of_another_machine_are_brought_home(home: Home) -> None:
    entry = {"workspace": "/root/clawd", "agentDir": "/root/.clawdbot/agents/main/agent"}
    home.write({"agents": {"defaults": {"workspace": "/root/clawd"}, "entries": {"main": entry}}})
    report = home.configure(ANTHROPIC)
    workspace = str(home.place / ".openclaw" / "workspace")
    assert home.config["agents"]["defaults"]["workspace"] == workspace
    assert home.config["agents"]["entries"]["main"]["workspace"] == workspace
    assert len(report.notes) == 3


def test_a_workspace_inside_of_home_stays(home: Home) -> None:
    home.write({"agents": {"defaults": {"workspace": str(home.place / "projects")}}})
    home.configure(ANTHROPIC)
    assert home.config["agents"]["defaults"]["workspace"] == str(home.place / "projects")


@pytest.mark.parametrize(
    ("variables", "primary"),
    [
        (
            {
                "CLOUDFLARE_AI_GATEWAY_API_KEY": "k",
                "CF_AI_GATEWAY_ACCOUNT_ID": "acc",
                "CF_AI_GATEWAY_GATEWAY_ID": "gw",
                **ANTHROPIC,
            },
            "cf-ai-gw-anthropic/",
        ),
        (
            {
                "CLOUDFLARE_AI_GATEWAY_API_KEY": "k",
                "CF_AI_GATEWAY_ACCOUNT_ID": "acc",
                "CF_AI_GATEWAY_GATEWAY_ID": "gw",
                "CF_AI_GATEWAY_MODEL": "workers-ai/@cf/meta/llama",
            },
            "cf-ai-gw-workers-ai/@cf/meta/llama",
        ),
        ({**ANTHROPIC, "OPENAI_API_KEY": "k"}, "anthropic/"),
        (
            {"OPENAI_API_KEY": "k", "AI_GATEWAY_API_KEY": "k", "AI_GATEWAY_BASE_URL": "https://x.example/anthropic"},
            "openai/",
        ),
        ({"AI_GATEWAY_API_KEY": "k", "AI_GATEWAY_BASE_URL": "https://x.example/anthropic"}, "ai-gateway/claude"),
    ],
)
def test_the_first_provider_there_is_gives_the_model(home: Home, variables: dict[str, str], primary: str) -> None:
    home.configure(variables)
    assert home.config["agents"]["defaults"]["model"]["primary"].startswith(primary)
    assert "cloudflare-ai-gateway" not in home.config["models"]["providers"], "that id names a plugin to be fetched"


def test_a_provider_that_openclaw_does_not_know_comes_with_its_model(home: Home) -> None:
    home.configure(
        {
            "CLOUDFLARE_AI_GATEWAY_API_KEY": "k",
            "CF_AI_GATEWAY_ACCOUNT_ID": "acc",
            "CF_AI_GATEWAY_GATEWAY_ID": "gw",
            "CF_AI_GATEWAY_MODEL": "workers-ai/@cf/x",
        }
    )
    provider = home.config["models"]["providers"]["cf-ai-gw-workers-ai"]
    assert provider["baseUrl"] == "http://127.0.0.1:18790/cf-ai-gw-workers-ai/v1"
    assert provider["api"] == "openai-completions"
    assert provider["models"][0]["id"] == "@cf/x"


def test_telegram_is_open_only_where_that_is_said(home: Home) -> None:
    home.configure({"TELEGRAM_BOT_TOKEN": "123:x"})
    assert "dmPolicy" not in home.config["channels"]["telegram"]
    home.configure({"TELEGRAM_BOT_TOKEN": "123:x", "TELEGRAM_DM_POLICY": "open"})
    assert home.config["channels"]["telegram"]["allowFrom"] == ["*"]
    home.configure({"TELEGRAM_BOT_TOKEN": "123:x", "TELEGRAM_DM_ALLOW_FROM": "1, 2"})
    assert home.config["channels"]["telegram"]["dmPolicy"] == "allowlist"
    assert home.config["channels"]["telegram"]["allowFrom"] == ["1", "2"]
