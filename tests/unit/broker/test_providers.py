"""From variables to providers."""

from __future__ import annotations

from supervisor.broker.providers import providers
from tests.unit.broker.support import VARIABLES

ACCOUNT = "1" * 32
GATEWAY = f"https://gateway.ai.cloudflare.com/v1/{ACCOUNT}/mine"


def urls(**variables: str) -> dict[str, tuple[str, str]]:
    return {provider.name: (provider.base_url, provider.local_url(1)) for provider in providers(variables)}


def test_every_provider_is_where_it_is_documented_to_be() -> None:
    assert {name: url for name, (url, _) in urls(**VARIABLES).items()} == {
        "cf-ai-gw-anthropic": f"{GATEWAY}/anthropic",
        "anthropic": "https://api.anthropic.com",
        "openai": "https://api.openai.com/v1",
        "openrouter": "https://openrouter.ai/api/v1",
        "google": "https://generativelanguage.googleapis.com/v1beta",
        "workers-ai": f"https://api.cloudflare.com/client/v4/accounts/{'0' * 32}/ai/v1",
        "compatible": "http://127.0.0.1:1/v1",
        "ai-gateway": "http://127.0.0.1:1/legacy/anthropic",
    }


def test_the_ai_gateway_speaks_the_language_of_the_provider_behind_it() -> None:
    both = {"CF_AI_GATEWAY_ACCOUNT_ID": ACCOUNT, "CF_AI_GATEWAY_GATEWAY_ID": "mine", "CF_AI_GATEWAY_TOKEN": "t"}
    for model, upstream, local in (
        ("anthropic/claude", f"{GATEWAY}/anthropic", ""),
        ("openai/gpt", f"{GATEWAY}/openai", "/v1"),
        ("workers-ai/@cf/meta/llama", f"{GATEWAY}/workers-ai/v1", "/v1"),
        ("compat/x/y", f"{GATEWAY}/compat", "/v1"),
        ("google-ai-studio/gemini", f"{GATEWAY}/google-ai-studio/v1beta", "/v1beta"),
    ):
        name, _, rest = model.partition("/")
        found = providers({**both, "CF_AI_GATEWAY_MODEL": model})[0]
        assert (found.name, found.base_url, found.model) == (f"cf-ai-gw-{name}", upstream, rest)
        assert found.local_url(7) == f"http://127.0.0.1:7/cf-ai-gw-{name}{local}"
        assert found.named


def test_a_servers_own_address_is_used_and_a_local_one_needs_no_key() -> None:
    assert (
        urls(ANTHROPIC_API_KEY="k", ANTHROPIC_BASE_URL="https://a.example/x")["anthropic"][0] == "https://a.example/x"
    )
    assert urls(OPENAI_API_KEY="k", OPENAI_BASE_URL="https://o.example/v1")["openai"][0] == "https://o.example/v1"
    local = providers({"MOLTINIT_MODEL_URL": "http://127.0.0.1:11434/v1", "MOLTINIT_MODEL_NAME": "qwen"})[0]
    assert (local.credentials, local.model) == ((), "qwen")
    assert providers({}) == ()
