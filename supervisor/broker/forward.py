"""One model request, forwarded: checked, given its credential, streamed both ways, counted. Nothing is repeated here,
and no body is kept or logged."""

from __future__ import annotations

import hmac
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import aiohttp
from aiohttp import web
from yarl import URL

from supervisor.broker import headers as passing
from supervisor.broker import paths
from supervisor.broker.accounts import Accounts
from supervisor.broker.budget import Refusal, Reservation
from supervisor.broker.keys import Keyring
from supervisor.broker.paths import Spends, Target
from supervisor.broker.providers import Dialect, Provider
from supervisor.broker.refusals import BrokerError, over_budget
from supervisor.broker.scrub import Scrubber
from supervisor.broker.usage import BYTES_PER_TOKEN, Meter, RequestReader

CONNECT_SECONDS = 15.0
SILENCE_SECONDS = 900.0
"""Between two reads of an answer: a long thinking turn that is not streamed says nothing for minutes."""
MAX_REQUESTS = 64
"""At once. An agent with its sub-agents has a dozen."""
KEEP_ALIVE_SECONDS = 15.0
"""Of an idle connection to a provider: shorter than theirs, so that no POST meets their close, which could not be
repeated; long enough for the turns of one conversation to share a TLS handshake."""


class Log(Protocol):
    """The part of a structlog logger that is used here."""

    def debug(self, event: str, **values: Any) -> Any: ...
    def warning(self, event: str, **values: Any) -> Any: ...


@dataclass(frozen=True, slots=True)
class _Opened:
    """The credential headers of one request, and the bare secrets in them."""

    headers: dict[str, str] = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)


class Forwarder:
    """Forwards the requests of all providers.

    Args:
        token: what the agent has to present in the place of a key.
    """

    def __init__(
        self, providers: tuple[Provider, ...], *, keyring: Keyring, accounts: Accounts, token: str, log: Log
    ) -> None:
        self._providers = {provider.name: provider for provider in providers}
        self._keyring = keyring
        self._accounts = accounts
        self._token = token
        self._log = log
        self._under_way = 0
        self._session: aiohttp.ClientSession | None = None

    def start(self) -> None:
        """Make the client; needs a running event loop."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS),
            skip_auto_headers=("Accept", "Content-Type", "User-Agent"),
            # Nothing of the daemon's environment steers where a key goes.
            trust_env=False,
        )

    async def close(self) -> None:
        """Give back the connections."""
        if self._session is not None:
            await self._session.close()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; what is wrong with it is said as its provider would."""
        provider = self._providers.get(request.raw_path.lstrip("/").partition("/")[0].partition("?")[0])
        dialect = provider.dialect if provider else Dialect.OPENAI
        try:
            self._check_token(request)
            if provider is None:
                raise BrokerError(404, f"No such provider here; there are: {', '.join(self._providers) or 'none'}.")
            return await self._forward(request, provider)
        except BrokerError as error:
            self._log.debug("broker.refused", provider=provider.name if provider else None, status=error.status)
            return web.Response(status=error.status, body=error.body(dialect), headers=error.headers())

    def _check_token(self, request: web.BaseRequest) -> None:
        scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
        presented = (
            request.headers.get("x-api-key"),
            bearer.strip() if scheme.lower() == "bearer" else None,
            request.headers.get("x-goog-api-key"),
            request.headers.get("api-key"),
            paths.query_token(request.raw_path),
        )
        if not any(hmac.compare_digest(said.encode(), self._token.encode()) for said in presented if said):
            raise BrokerError(401, "The broker does not know this key: it serves this VM's agent alone.", retry=False)

    async def _forward(self, request: web.BaseRequest, provider: Provider) -> web.StreamResponse:
        target = paths.target(provider, request.method, request.raw_path)
        if target is None:
            raise BrokerError(403, f"The broker does not pass {request.method} on this path on.", retry=False)
        opened = self._open(provider)
        if self._under_way >= MAX_REQUESTS:
            raise BrokerError(429, f"{MAX_REQUESTS} model requests are under way already.", retry_after=1)
        self._under_way += 1
        try:
            async with self._metered(request, provider, target) as call:
                return await self._exchange(request, provider, target, opened, call)
        finally:
            self._under_way -= 1

    def _open(self, provider: Provider) -> _Opened:
        headers, secrets = {}, []
        for credential in provider.credentials:
            secret = self._keyring.get(credential.secret)
            if secret is None:
                raise BrokerError(503, f"The broker has no key for {provider.name} ({credential.secret}).", retry=False)
            headers[credential.header] = credential.scheme + secret
            secrets.append(secret)
        return _Opened(headers, tuple(secrets))

    @asynccontextmanager
    async def _metered(self, request: web.BaseRequest, provider: Provider, target: Target) -> AsyncIterator[_Call]:
        """The request is within the budget; what it was is entered whatever becomes of it."""
        call = _Call(target)
        if target.metered:
            tokens = (request.content_length or 0) // BYTES_PER_TOKEN
            admitted = self._accounts.admit(provider.name, tokens, answers=target.spends is Spends.TEXT)
            if isinstance(admitted, Refusal):
                raise over_budget(admitted)
            call.reservation = admitted
        try:
            yield call
        finally:
            if call.reservation is not None:
                self._accounts.settle(
                    provider.name, call.reservation, request=call.request, meter=call.meter, outcome=call.outcome
                )

    async def _exchange(
        self, request: web.BaseRequest, provider: Provider, target: Target, opened: _Opened, call: _Call
    ) -> web.StreamResponse:
        assert self._session is not None
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0  # as if nothing was written: the answer's own head is yet to come
        body = self._body(request, provider, call) if request.body_exists else None
        response: web.StreamResponse | None = None
        try:
            async with self._session.request(
                request.method,
                URL(target.url, encoded=True),
                headers=passing.to_provider(request.headers, opened.headers),
                data=body,
                allow_redirects=False,
            ) as upstream:
                call.begun(upstream)
                response = web.StreamResponse(
                    status=upstream.status,
                    reason=_reason(upstream.reason, opened.secrets),
                    headers=passing.to_agent(upstream.headers, opened.secrets),
                )
                await response.prepare(request)
                scrub = Scrubber(opened.secrets)
                async for chunk in upstream.content.iter_any():
                    if call.meter is not None:
                        call.meter.feed(chunk)
                    if passed := scrub.feed(chunk):
                        await response.write(passed)
                if rest := scrub.end():
                    await response.write(rest)
                call.outcome.complete = True
                await response.write_eof()
                return response
        except (aiohttp.ClientError, OSError) as error:
            # `TimeoutError` is an OSError, too.
            call.outcome.failed = True
            if call.refusal is not None and call.meter is None:
                call.outcome.status = 429  # it has cost nothing: nobody has it whole
            if call.refusal is not None and (response is None or not response.prepared):
                raise over_budget(call.refusal) from None
            if response is None or not response.prepared:
                raise _unreachable(provider, error) from error
            # The head is out: breaking the connection is all that still says that the answer is not whole.
            if request.transport is not None:
                request.transport.abort()
            return response

    async def _body(self, request: web.BaseRequest, provider: Provider, call: _Call) -> AsyncIterator[bytes]:
        """The request's body. Of one that came without its size (`Transfer-Encoding: chunked`) more is set aside as it
        comes; where that goes beyond a limit it breaks off, and the provider has no whole request."""
        unsized = call.reservation if request.content_length is None else None
        grown = 0
        async for chunk in request.content.iter_any():
            call.request.feed(chunk)
            if unsized is not None:
                more = call.request.size // BYTES_PER_TOKEN - grown
                call.refusal = self._accounts.grow(provider.name, unsized, more)
                if call.refusal is not None:
                    raise ConnectionAbortedError("over budget")
                grown += more
            yield chunk
        call.request.whole = True


class Outcome:
    """How a request ended: its status, whether the answer came whole, whether either side broke off."""

    def __init__(self) -> None:
        self.status = 0
        self.complete = False
        self.failed = False


class _Call:
    """What becomes of one request."""

    def __init__(self, target: Target) -> None:
        self.reservation: Reservation | None = None
        self.refusal: Refusal | None = None
        self.request = RequestReader(target.model, outlives=target.outlives)
        self._tells = target.spends is Spends.TEXT
        self.meter: Meter | None = None
        self.outcome = Outcome()

    def begun(self, upstream: aiohttp.ClientResponse) -> None:
        """The head of the answer is there."""
        self.outcome.status = upstream.status
        if upstream.status < 300 and self.reservation is not None:
            self.meter = Meter(upstream.headers.get("Content-Type", ""), tells=self._tells)


_PLAIN = re.compile(r"[A-Za-z0-9 '()-]{0,80}")


def _reason(reason: str | None, secrets: tuple[str, ...]) -> str | None:
    plain = reason is not None and _PLAIN.fullmatch(reason) and not any(secret in reason for secret in secrets)
    return reason if plain else None


def _unreachable(provider: Provider, error: Exception) -> BrokerError:
    """Says what happened by the error's kind: its text may quote a header."""
    host = URL(provider.base_url).host
    if isinstance(error, TimeoutError):
        return BrokerError(504, f"The provider {provider.name} ({host}) did not answer in time.")
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError):
        return BrokerError(
            502, f"The provider {provider.name} ({host}) has no certificate that is trusted.", retry=False
        )
    if isinstance(error, aiohttp.ClientConnectorError):
        return BrokerError(502, f"The provider {provider.name} ({host}) cannot be reached.")
    return BrokerError(502, f"The provider {provider.name} ({host}) broke off ({type(error).__name__}).")
