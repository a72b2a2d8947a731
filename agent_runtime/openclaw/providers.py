"""Model providers out of moltworker's variables. Keys never stand in the config: it refers to the environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent_runtime.openclaw.merge import Owned, Rule

AI_GATEWAY = "https://gateway.ai.cloudflare.com/v1"
ANTHROPIC_MODEL = "claude-sonnet-4-6"
OPENAI_MODEL = "gpt-6-astra"

CONTEXT_TOKENS = 131_072
ANSWER_TOKENS = 8_192
"""What moltworker gives a model that nothing is known of; the user's own values in the config stay."""

PRIMARY = ("agents", "defaults", "model", "primary")


def secret_ref(variable: str) -> dict[str, str]:
    """A secret in the gateway's environment, as its config refers to it (docs/gateway/config-secrets-env.md there)."""
    return {"source": "env", "provider": "default", "id": variable}


def providers(variables: Mapping[str, str]) -> list[Owned]:
    """Every provider that is set; the first one there is gives the default model: Cloudflare's AI Gateway, Anthropic,
    OpenAI, the legacy gateway."""
    found = [
        item
        for item in (_ai_gateway(variables), _anthropic(variables), _openai(variables), _legacy(variables))
        if item is not None
    ]
    owned = [
        Owned(("models", "providers", name, key), value)
        for name, settings, _ in found
        for key, value in settings.items()
    ]
    if found:
        name, _, model = found[0]
        explicit = "CF_AI_GATEWAY_MODEL" in variables and "CLOUDFLARE_AI_GATEWAY_API_KEY" in variables
        owned.append(Owned(PRIMARY, f"{name}/{model}", Rule.OPERATOR if explicit else Rule.DEFAULT))
    return owned


_Provider = tuple[str, dict[str, Any], str]


def _ai_gateway(variables: Mapping[str, str]) -> _Provider | None:
    # Not under the id `cloudflare-ai-gateway`: that names an external plugin, which the gateway would try to fetch
    # from the npm registry at every start.
    if "CLOUDFLARE_AI_GATEWAY_API_KEY" not in variables:
        return None
    provider, _, model = variables.get("CF_AI_GATEWAY_MODEL", f"anthropic/{ANTHROPIC_MODEL}").partition("/")
    base = f"{AI_GATEWAY}/{variables['CF_AI_GATEWAY_ACCOUNT_ID']}/{variables['CF_AI_GATEWAY_GATEWAY_ID']}/{provider}"
    api = "anthropic-messages" if provider == "anthropic" else "openai-completions"
    settings = {
        "baseUrl": f"{base}/v1" if provider == "workers-ai" else base,
        "apiKey": secret_ref("CLOUDFLARE_AI_GATEWAY_API_KEY"),
        "api": api,
        "models": [_model(model)],
    }
    return f"cf-ai-gw-{provider}", settings, model


def _anthropic(variables: Mapping[str, str]) -> _Provider | None:
    if "ANTHROPIC_API_KEY" not in variables:
        return None
    settings = {
        "baseUrl": variables.get("ANTHROPIC_BASE_URL", "https://api.anthropic.com"),
        "apiKey": secret_ref("ANTHROPIC_API_KEY"),
        "models": [],
    }
    return "anthropic", settings, ANTHROPIC_MODEL


def _openai(variables: Mapping[str, str]) -> _Provider | None:
    if "OPENAI_API_KEY" not in variables:
        return None
    settings = {
        "baseUrl": "https://api.openai.com/v1",
        "apiKey": secret_ref("OPENAI_API_KEY"),
        "models": [],
    }
    return "openai", settings, OPENAI_MODEL


def _legacy(variables: Mapping[str, str]) -> _Provider | None:
    """One URL for one provider; it ends with the provider's name."""
    if "AI_GATEWAY_API_KEY" not in variables:
        return None
    base = variables["AI_GATEWAY_BASE_URL"]
    openai = base.endswith(("/openai", "/openai/v1", "/compat", "/v1"))
    model = OPENAI_MODEL if openai else ANTHROPIC_MODEL
    settings = {
        "baseUrl": base,
        "apiKey": secret_ref("AI_GATEWAY_API_KEY"),
        "api": "openai-completions" if openai else "anthropic-messages",
        "models": [_model(model)],
    }
    return "ai-gateway", settings, model


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "name": name, "contextWindow": CONTEXT_TOKENS, "maxTokens": ANSWER_TOKENS}
