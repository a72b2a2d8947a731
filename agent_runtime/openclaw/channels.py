"""Chat channels out of moltworker's variables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent_runtime.openclaw.merge import Owned, Rule
from agent_runtime.openclaw.providers import secret_ref


def channels(variables: Mapping[str, str]) -> list[Owned]:
    """Telegram, Discord and Slack, each where its token is set."""
    owned: list[Owned] = []
    if "TELEGRAM_BOT_TOKEN" in variables:
        owned += _channel("telegram", {"botToken": secret_ref("TELEGRAM_BOT_TOKEN")})
        owned += _direct_messages("telegram", variables, "TELEGRAM_DM_POLICY", "TELEGRAM_DM_ALLOW_FROM")
    if "DISCORD_BOT_TOKEN" in variables:
        owned += _channel("discord", {"token": secret_ref("DISCORD_BOT_TOKEN")})
        owned += _direct_messages("discord", variables, "DISCORD_DM_POLICY", None)
    if "SLACK_BOT_TOKEN" in variables and "SLACK_APP_TOKEN" in variables:
        tokens = {"botToken": secret_ref("SLACK_BOT_TOKEN"), "appToken": secret_ref("SLACK_APP_TOKEN")}
        owned += _channel("slack", tokens)
    return owned


def _channel(name: str, settings: Mapping[str, Any]) -> list[Owned]:
    enabled = Owned(("channels", name, "enabled"), True, Rule.DEFAULT)
    return [enabled, *(Owned(("channels", name, key), value) for key, value in settings.items())]


def _direct_messages(
    name: str, variables: Mapping[str, str], policy_variable: str, allow_variable: str | None
) -> list[Owned]:
    """Who may write to the bot. OpenClaw's own default, pairing, needs no entry."""
    owned: list[Owned] = []
    policy = variables.get(policy_variable)
    allowed = _names(variables.get(allow_variable, "")) if allow_variable else []
    if policy is not None:
        owned.append(Owned(("channels", name, "dmPolicy"), policy))
    elif allowed:
        owned.append(Owned(("channels", name, "dmPolicy"), "allowlist"))
    if policy == "open":
        allowed = ["*"]  # OpenClaw refuses an open policy that is not also said here
    if allowed:
        owned.append(Owned(("channels", name, "allowFrom"), allowed))
    return owned


def _names(text: str) -> list[str]:
    return [name for name in (piece.strip() for piece in text.split(",")) if name]
