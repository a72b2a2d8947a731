"""Reading one Access token: what it may look like, and what it has to say.

Cloudflare signs with RS256 and nothing else. Keys come from the team's endpoint alone, found by `kid`: one that a
header brings along (`jwk`, `jku`, `x5u`, `x5c`) is not looked at. A header that wants to be understood (`crit`) is
refused by the library.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

from supervisor.http.answers import HttpError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

ALGORITHMS = ["RS256"]
MAX_TOKEN_CHARACTERS = 8192
MAX_NAME_CHARACTERS = 320
"""The longest e-mail address there is (RFC 5321): 64 + 1 + 255."""
LEEWAY_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class AccessIdentity:
    """Who Access says it is: a person (`name` is an e-mail address in lower case), or a service token."""

    name: str
    is_service: bool


def key_id(token: str) -> str:
    """The id of the key that a token claims to be signed with. Raises `HttpError` 401."""
    import jwt

    if len(token) > MAX_TOKEN_CHARACTERS:
        raise refused(f"is longer than {MAX_TOKEN_CHARACTERS} characters")
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.InvalidTokenError, ValueError, RecursionError) as error:
        raise refused("cannot be read") from error
    if header.get("alg") not in ALGORITHMS:
        raise refused("is not signed with RS256")
    kid = header.get("kid")
    if not isinstance(kid, str) or not 0 < len(kid) <= 256:
        raise refused("names no key")
    return kid


def read_token(token: str, key: RSAPublicKey, *, issuer: str, audiences: Collection[str], now: float) -> AccessIdentity:
    """Check everything, and say who it is.

    Args:
        issuer: the team's address.
        audiences: tags of the applications that are ours; one of them is enough.
        now: seconds since 1970.

    Raises:
        HttpError: 401.
    """
    import jwt

    options: Any = {
        "require": ["exp", "iss", "aud"],
        # The times are checked below, by a clock that a test can hold.
        **dict.fromkeys(("verify_exp", "verify_nbf", "verify_iat", "verify_sub", "verify_jti"), False),
    }
    try:
        claims = jwt.decode(token, key, algorithms=ALGORITHMS, audience=list(audiences), issuer=issuer, options=options)
    except jwt.InvalidAudienceError as error:
        raise refused("is for another application (aud)", hint="CF_ACCESS_AUD lists this one's tags.") from error
    except jwt.InvalidIssuerError as error:
        raise refused("is from another team (iss)", hint="CF_ACCESS_TEAM_DOMAIN names this one's.") from error
    except jwt.MissingRequiredClaimError as error:
        raise refused(f"does not say {error.claim}") from error
    except (jwt.InvalidTokenError, ValueError, RecursionError) as error:
        raise refused("is not signed by Access, or was changed") from error
    _check_times(claims, now)
    return _identity(claims)


def _check_times(claims: dict[str, Any], now: float) -> None:
    expires = _moment(claims, "exp")
    begins = [_moment(claims, name) for name in ("iat", "nbf") if name in claims]
    if expires <= now - LEEWAY_SECONDS:
        raise refused("has expired", hint="Sign in again: open the page in a browser, or reload it.")
    if any(moment > now + LEEWAY_SECONDS for moment in begins):
        raise refused("is not valid yet", hint="Is this machine's clock right?")
    if any(moment >= expires for moment in begins):
        raise refused("ends before it begins")


def _moment(claims: dict[str, Any], name: str) -> float:
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise refused(f"has a {name} that is no time")
    return float(value)


def _identity(claims: dict[str, Any]) -> AccessIdentity:
    email, service = claims.get("email"), claims.get("common_name")
    if _is_name(email):
        return AccessIdentity(email.lower(), is_service=False)
    if _is_name(service) and not email:
        return AccessIdentity(service, is_service=True)
    raise refused("names neither a person (email) nor a service (common_name)")


def _is_name(value: object) -> TypeGuard[str]:
    return (
        isinstance(value, str)
        and 0 < len(value) <= MAX_NAME_CHARACTERS
        and value.isprintable()
        and value == value.strip()
    )


def refused(why: str, *, hint: str = "") -> HttpError:
    """401 for a token that is there, and is no good; the token itself is not told."""
    return HttpError(
        401,
        "access-refused",
        f"The Access token {why}.",
        hint=hint or "Reach the front door through Cloudflare Access.",
        headers={"WWW-Authenticate": 'Bearer realm="moltinit", error="invalid_token"'},
    )
