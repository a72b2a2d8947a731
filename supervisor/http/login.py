"""Signing in with the operator token in a browser, and out again.

A browser that comes without a session is sent here, and afterwards back to where it wanted to go. Everybody else gets
the 401 as JSON.
"""

from __future__ import annotations

from urllib.parse import parse_qsl, quote, urlsplit

from aiohttp import web

from supervisor.http import login_page
from supervisor.http.answers import HttpError
from supervisor.http.attempts import Attempts
from supervisor.http.auth import Access, Visitor, refuse_cross_site
from supervisor.http.bearers import Bearers
from supervisor.http.endpoints import VISITOR, Endpoints
from supervisor.http.navigation import is_navigation, without_token
from supervisor.http.origins import Origins, is_loopback_name
from supervisor.http.sessions import Sessions

LOGIN_PATH = "/_admin/login"
LOGOUT_PATH = "/_admin/logout"

MAX_RETURN_PATH = 2048


class Login:
    """The login page and what stands behind it.

    Args:
        bearers: knows the operator token as `bearer`.
    """

    def __init__(self, bearers: Bearers, sessions: Sessions, attempts: Attempts, origins: Origins) -> None:
        self._bearers = bearers
        self._sessions = sessions
        self._attempts = attempts
        self._origins = origins

    def add_to(self, endpoints: Endpoints) -> None:
        """Add the paths; they are open, since whoever comes here has nothing to show yet."""
        endpoints.add("GET", LOGIN_PATH, Access.OPEN, self.show)
        endpoints.add("POST", LOGIN_PATH, Access.OPEN, self.sign_in)
        endpoints.add("POST", LOGOUT_PATH, Access.OPEN, self.sign_out)

    def instead_of(self, request: web.Request, error: HttpError) -> web.Response | None:
        """What a browser sees in place of a bare 401; None where the error is to be told as it is."""
        if error.status != 401 or not is_navigation(request):
            return None
        target = without_token(request.raw_path) or request.raw_path
        if request.headers.get("Sec-Fetch-Site") in ("cross-site", "same-site"):
            # A link on another site: the browser keeps a strict cookie back, but not from our own page's link.
            return _page(login_page.bounce(safe_return_path(target)))
        where = safe_return_path(target)
        return _redirect(LOGIN_PATH if where == "/" else f"{LOGIN_PATH}?next={quote(where, safe='/')}")

    async def show(self, request: web.Request) -> web.Response:
        where = safe_return_path(request.query.get("next", "/"))
        if self._sessions.valid(request.headers):
            return _page(login_page.signed_in(where))
        return _page(login_page.form(where))

    async def sign_in(self, request: web.Request) -> web.Response:
        refuse_cross_site(request.method, request.headers, self._origins)
        fields = await _form(request)
        where = safe_return_path(fields.get("next", "/"))
        peer = request.remote or ""
        try:
            self._attempts.check(peer)
        except HttpError as error:
            return _page(login_page.form(where, problem=f"{error.message} {error.hint}"), error.status, error.headers)
        if self._bearers.name_of(fields.get("token", "").strip()) != "bearer":
            self._attempts.wrong(peer)
            return _page(login_page.form(where, problem="That is not the operator token."), 401)
        request[VISITOR] = Visitor("operator")  # for the audit log: from here on it is known who that was
        cookie = self._sessions.issue(secure=self._is_secure(request))
        return _redirect(where, cookie)

    async def sign_out(self, request: web.Request) -> web.Response:
        refuse_cross_site(request.method, request.headers, self._origins)
        return _redirect(LOGIN_PATH, *self._sessions.end(request.headers))

    def _is_secure(self, request: web.Request) -> bool:
        """Whether the browser speaks https. TLS ends in front of us; but a form's Origin says how it was loaded."""
        origin = request.headers.get("Origin")
        if origin:
            return urlsplit(origin).scheme == "https"
        return not is_loopback_name(urlsplit(f"//{request.headers.get('Host', '')}").hostname or "")


def safe_return_path(text: str) -> str:
    """A path on this very site, or `/`: nothing that some browser might take for another site's address."""
    plain = text.isascii() and text.isprintable() and "\\" not in text and " " not in text
    if not plain or not text.startswith("/") or text.startswith("//") or len(text) > MAX_RETURN_PATH:
        return "/"
    if urlsplit(text).path in (LOGIN_PATH, LOGOUT_PATH):
        return "/"
    return text


async def _form(request: web.Request) -> dict[str, str]:
    if request.content_type != "application/x-www-form-urlencoded":
        raise HttpError(415, "no-form", "The login page's form is application/x-www-form-urlencoded.")
    try:
        body = await request.read()
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=8))
    except web.HTTPRequestEntityTooLarge as error:
        raise HttpError(413, "too-large", "The form is too large.") from error
    except ValueError as error:
        raise HttpError(400, "bad-request", "The request's body is no form.") from error


def _page(html: str, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(text=html, status=status, headers={**login_page.HEADERS, **(headers or {})})


def _redirect(where: str, *cookies: str) -> web.Response:
    response = web.Response(status=303, headers={"Location": where, "Cache-Control": "no-store"})
    for cookie in cookies:
        response.headers.add("Set-Cookie", cookie)
    return response
