"""Model providers, and the browser, as OpenClaw's config names them: each one is the broker on loopback. No key is in
the config, in its environment or anywhere else that the gateway can see; a token for this life stands in its place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent_runtime.contract import Brokered, ModelEndpoint
from agent_runtime.openclaw.merge import Owned, Rule

BROKER_TOKEN_VARIABLE = "MOLTINIT_BROKER_TOKEN"
BROWSER_VARIABLE = "MOLTINIT_BROWSER"
"""Only there where there is a browser: skills that need one ask for it."""

CATALOGUED = {
    "anthropic": "claude-sonnet-4-6",
    "openai": "gpt-6-astra",
    "google": "gemini-3.1-pro-preview",
    "openrouter": "auto",
}
"""Providers that OpenClaw brings models for, and which of them to begin with."""

APIS = {"anthropic": "anthropic-messages", "openai": "openai-completions", "google": "google-generative-ai"}
MODELS = {"anthropic": "claude-sonnet-4-6", "openai": "gpt-6-astra", "google": "gemini-3.1-pro-preview"}
"""By API, where neither the operator nor OpenClaw names one."""

CONTEXT_TOKENS = 131_072
ANSWER_TOKENS = 8_192
"""What moltworker gives a model that nothing is known of; the user's own values in the config stay."""

PRIMARY = ("agents", "defaults", "model", "primary")
BROWSER_PROFILE = "remote"


def secret_ref(variable: str) -> dict[str, str]:
    """A secret in the gateway's environment, as its config refers to it (docs/gateway/config-secrets-env.md there)."""
    return {"source": "env", "provider": "default", "id": variable}


def broker_environment(broker: Brokered | None) -> Mapping[str, str]:
    """How the gateway, and the skills in it, find the broker."""
    if broker is None:
        return {}
    eyes = {} if broker.browser_url is None else {BROWSER_VARIABLE: broker.browser_url}
    return {BROKER_TOKEN_VARIABLE: broker.token, **eyes}


def providers(broker: Brokered | None) -> list[Owned]:
    """Every provider that the broker has; the first one there is gives the default model.

    Where a provider is and what opens it is enforced: an address with a key of its own, left over from another
    installation, must not stay in use past the broker.
    """
    if broker is None or not broker.models:
        return []
    owned = [item for endpoint in broker.models for item in _provider(endpoint)]
    first = broker.models[0]
    rule = Rule.OPERATOR if first.named else Rule.DEFAULT
    owned.append(Owned(PRIMARY, f"{first.name}/{_model_of(first)}", rule))
    return owned


def _provider(endpoint: ModelEndpoint) -> list[Owned]:
    at = ("models", "providers", endpoint.name)
    owned = [
        Owned((*at, "baseUrl"), endpoint.base_url, Rule.ENFORCED),
        Owned((*at, "apiKey"), secret_ref(BROKER_TOKEN_VARIABLE), Rule.ENFORCED),
        Owned((*at, "models"), [] if endpoint.name in CATALOGUED else [_model(_model_of(endpoint))]),
    ]
    if endpoint.name != "openai":  # there it depends on the model, and OpenClaw knows which wants what
        owned.append(Owned((*at, "api"), APIS[endpoint.api]))
    return owned


def _model_of(endpoint: ModelEndpoint) -> str:
    return endpoint.model or CATALOGUED.get(endpoint.name) or MODELS[endpoint.api]


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "name": name, "contextWindow": CONTEXT_TOKENS, "maxTokens": ANSWER_TOKENS}


def browser(broker: Brokered | None) -> list[Owned]:
    """The remote browser: attached to, never started (docs/tools/browser/remote.md there). OpenClaw takes a credential
    for it only within the URL; its own substitution keeps the token out of the config."""
    if broker is None or broker.browser_url is None:
        return []
    profile = ("browser", "profiles", BROWSER_PROFILE)
    return [
        Owned(("browser", "enabled"), True, Rule.DEFAULT),
        Owned(("browser", "defaultProfile"), BROWSER_PROFILE, Rule.DEFAULT),
        Owned((*profile, "cdpUrl"), f"{broker.browser_url}?token=${{{BROKER_TOKEN_VARIABLE}}}", Rule.ENFORCED),
        Owned((*profile, "attachOnly"), True, Rule.ENFORCED),
    ]
