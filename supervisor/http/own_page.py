"""Calls that change something must be meant: by a program that holds a key, or by one of our own pages.

A gatekeeper refuses foreign origins already. What is left is the browser that names no origin at all: an old one, an
extension, a request made so on purpose. It sends cookies and passwords along by itself, so that these prove nothing.
"""

from __future__ import annotations

from multidict import CIMultiDictProxy

from supervisor.http.answers import HttpError

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
CUSTOM_HEADERS = ("X-Moltinit", "X-Requested-With")
"""A page of another site cannot set a header of its own without asking first (CORS), and is told no."""


def require_own_page(method: str, headers: CIMultiDictProxy[str]) -> None:
    """Refuse an unsafe call that a browser may have been made to send.

    It passes with a bearer token, with an Origin (which was checked), with `Sec-Fetch-Site: same-origin`, or with one
    of `CUSTOM_HEADERS`; and where nothing about it is a browser's: no cookie, no fetch metadata, no browser's name.

    Raises:
        HttpError: 403.
    """
    if method in SAFE_METHODS or _is_meant(headers) or not _may_be_a_browser(headers):
        return
    raise HttpError(
        403,
        "origin-missing",
        f"A {method} request that may come from a browser has to say which page it comes from.",
        hint=f"Send the header '{CUSTOM_HEADERS[0]}: 1', or a bearer token instead of a cookie.",
    )


def _is_meant(headers: CIMultiDictProxy[str]) -> bool:
    bearer = headers.get("Authorization", "")[:7].lower() == "bearer "
    own = headers.get("Sec-Fetch-Site") == "same-origin"
    return bearer or own or "Origin" in headers or any(name in headers for name in CUSTOM_HEADERS)


def _may_be_a_browser(headers: CIMultiDictProxy[str]) -> bool:
    if "Cookie" in headers or headers.get("User-Agent", "").startswith("Mozilla/"):
        return True
    return any(name.lower().startswith("sec-fetch-") for name in headers)
