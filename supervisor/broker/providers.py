"""Which model providers there are, out of the settings: where each is, how it is spoken to, what opens it.

The names of the secrets stand here, never their values: those are asked of the `Keyring` for every request.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import quote

AI_GATEWAY = "https://gateway.ai.cloudflare.com/v1"
WORKERS_AI = "https://api.cloudflare.com/client/v4/accounts"


class Dialect(StrEnum):
    """How a provider is spoken to, and how it words an error."""

    ANTHROPIC = "anthropic"
    OPENAI = "openai"
    GOOGLE = "google"


MOUNT = {Dialect.ANTHROPIC: "", Dialect.OPENAI: "/v1", Dialect.GOOGLE: "/v1beta"}
"""What the agent's base URL has after the provider's name, as the clients of that dialect want it."""


@dataclass(frozen=True, slots=True)
class Credential:
    """A header that the broker adds: `scheme` (with its blank), then the secret called `secret`."""

    header: str
    secret: str
    scheme: str = ""


@dataclass(frozen=True, slots=True)
class Provider:
    """One provider.

    Args:
        name: its place on the broker, `http://127.0.0.1:PORT/<name>`.
        base_url: where it is; what is below `MOUNT` on the broker is below this.
        credentials: all of them are sent; none where the gateway in front of it keeps the key (BYOK).
        model: the one to begin with; empty leaves it to the agent.
        named: the operator chose that model by name.
    """

    name: str
    dialect: Dialect
    base_url: str
    credentials: tuple[Credential, ...]
    model: str = ""
    named: bool = False

    def local_url(self, port: int) -> str:
        """The base URL that the agent is given."""
        return f"http://127.0.0.1:{port}/{self.name}{MOUNT[self.dialect]}"


def providers(variables: Mapping[str, str]) -> tuple[Provider, ...]:
    """Every provider that the variables name; the first one is where the agent's default model comes from."""
    found = (
        _ai_gateway(variables),
        _anthropic(variables),
        _openai(variables),
        _openrouter(variables),
        _google(variables),
        _workers_ai(variables),
        _compatible(variables),
        _legacy(variables),
    )
    return tuple(provider for provider in found if provider is not None)


def _key_of(dialect: Dialect, secret: str) -> Credential:
    if dialect is Dialect.ANTHROPIC:
        return Credential("x-api-key", secret)
    if dialect is Dialect.GOOGLE:
        return Credential("x-goog-api-key", secret)
    return Credential("Authorization", secret, "Bearer ")


def _ai_gateway(variables: Mapping[str, str]) -> Provider | None:
    """Cloudflare's AI Gateway. Its own token opens an authenticated gateway; with the provider's key kept there
    (BYOK) it is all that is sent."""
    if "CF_AI_GATEWAY_ACCOUNT_ID" not in variables or "CF_AI_GATEWAY_GATEWAY_ID" not in variables:
        return None
    named = "CF_AI_GATEWAY_MODEL" in variables
    provider, _, model = variables.get("CF_AI_GATEWAY_MODEL", "anthropic/").partition("/")
    dialect = {"anthropic": Dialect.ANTHROPIC, "google-ai-studio": Dialect.GOOGLE}.get(provider, Dialect.OPENAI)
    gateway = quote(variables["CF_AI_GATEWAY_GATEWAY_ID"], safe="")
    base = f"{AI_GATEWAY}/{variables['CF_AI_GATEWAY_ACCOUNT_ID']}/{gateway}/{quote(provider, safe='')}"
    suffix = {"workers-ai": "/v1", "google-ai-studio": "/v1beta"}.get(provider, "")
    credentials = []
    if "CLOUDFLARE_AI_GATEWAY_API_KEY" in variables:
        credentials.append(_key_of(dialect, "CLOUDFLARE_AI_GATEWAY_API_KEY"))
    if "CF_AI_GATEWAY_TOKEN" in variables:
        credentials.append(Credential("cf-aig-authorization", "CF_AI_GATEWAY_TOKEN", "Bearer "))
    return Provider(f"cf-ai-gw-{provider}", dialect, base + suffix, tuple(credentials), model, named)


def _anthropic(variables: Mapping[str, str]) -> Provider | None:
    if "ANTHROPIC_API_KEY" not in variables:
        return None
    base = variables.get("ANTHROPIC_BASE_URL", "https://api.anthropic.com")
    return Provider("anthropic", Dialect.ANTHROPIC, base, (_key_of(Dialect.ANTHROPIC, "ANTHROPIC_API_KEY"),))


def _openai(variables: Mapping[str, str]) -> Provider | None:
    if "OPENAI_API_KEY" not in variables:
        return None
    base = variables.get("OPENAI_BASE_URL", "https://api.openai.com/v1")
    return Provider("openai", Dialect.OPENAI, base, (_key_of(Dialect.OPENAI, "OPENAI_API_KEY"),))


def _openrouter(variables: Mapping[str, str]) -> Provider | None:
    if "OPENROUTER_API_KEY" not in variables:
        return None
    key = _key_of(Dialect.OPENAI, "OPENROUTER_API_KEY")
    return Provider("openrouter", Dialect.OPENAI, "https://openrouter.ai/api/v1", (key,), "auto")


def _google(variables: Mapping[str, str]) -> Provider | None:
    if "GEMINI_API_KEY" not in variables:
        return None
    base = "https://generativelanguage.googleapis.com/v1beta"
    return Provider("google", Dialect.GOOGLE, base, (_key_of(Dialect.GOOGLE, "GEMINI_API_KEY"),))


def _workers_ai(variables: Mapping[str, str]) -> Provider | None:
    if "WORKERS_AI_API_TOKEN" not in variables or "CF_ACCOUNT_ID" not in variables:
        return None
    base = f"{WORKERS_AI}/{variables['CF_ACCOUNT_ID']}/ai/v1"
    key = _key_of(Dialect.OPENAI, "WORKERS_AI_API_TOKEN")
    return Provider("workers-ai", Dialect.OPENAI, base, (key,), variables.get("WORKERS_AI_MODEL", ""), True)


def _compatible(variables: Mapping[str, str]) -> Provider | None:
    """Any server with OpenAI's API; one on loopback (Ollama, llama.cpp) may have no key."""
    if "MOLTINIT_MODEL_URL" not in variables:
        return None
    keys = (_key_of(Dialect.OPENAI, "MOLTINIT_MODEL_KEY"),) if "MOLTINIT_MODEL_KEY" in variables else ()
    name = variables.get("MOLTINIT_MODEL_NAME", "")
    return Provider("compatible", Dialect.OPENAI, variables["MOLTINIT_MODEL_URL"], keys, name, True)


def _legacy(variables: Mapping[str, str]) -> Provider | None:
    """moltworker's older pair: one URL for one provider; it ends with the provider's name."""
    if "AI_GATEWAY_API_KEY" not in variables:
        return None
    base = variables["AI_GATEWAY_BASE_URL"]
    openai = base.endswith(("/openai", "/openai/v1", "/compat", "/v1"))
    dialect = Dialect.OPENAI if openai else Dialect.ANTHROPIC
    return Provider("ai-gateway", dialect, base, (_key_of(dialect, "AI_GATEWAY_API_KEY"),))
