"""Templates and static files: escaped, hashed, served from the package."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from supervisor.http.admin import words

if TYPE_CHECKING:
    from jinja2 import Environment

PREFIX = "/_admin/static/"

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)

PAGE_HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cache-Control": "no-store",
    # Not `no-referrer`: with that a browser sends `Origin: null` with our own forms.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}

_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class Asset:
    """A static file under a name that changes with its content."""

    name: str
    body: bytes
    content_type: str
    etag: str


def _load_assets() -> dict[str, Asset]:
    found = {}
    for file in resources.files(__package__).joinpath("static").iterdir():
        path = PurePosixPath(file.name)
        if path.suffix in _TYPES:
            body = file.read_bytes()
            digest = hashlib.sha256(body).hexdigest()[:16]
            name = f"{path.stem}.{digest}{path.suffix}"
            found[file.name] = Asset(name, body, f"{_TYPES[path.suffix]}; charset=utf-8", f'"{digest}"')
    return found


class Renderer:
    """Made once; slow to make (jinja2 is imported, templates are compiled), so make it in a thread."""

    def __init__(self) -> None:
        self._assets = _load_assets()
        self._served = {asset.name: asset for asset in self._assets.values()}
        self._environment = self._make_environment()

    def page(self, template: str, values: Mapping[str, Any]) -> bytes:
        """A page from its template. Everything put in is escaped, and made visible."""
        return self._environment.get_template(template).render(values).encode()

    def asset(self, name: str) -> Asset | None:
        """A static file by its hashed name."""
        return self._served.get(name)

    def _make_environment(self) -> Environment:
        from jinja2 import Environment, FunctionLoader, StrictUndefined
        from markupsafe import Markup

        def finalize(value: object) -> object:
            """Called for everything that is put out, before it is escaped."""
            if value is None:
                return ""
            return words.visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value

        directory = resources.files(__package__).joinpath("templates")
        environment = Environment(
            autoescape=True,
            undefined=StrictUndefined,
            finalize=finalize,
            loader=FunctionLoader(lambda name: directory.joinpath(name).read_text("utf-8")),
            auto_reload=False,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.globals["static"] = lambda name: PREFIX + self._assets[name].name
        for function in (words.ago, words.iso, words.clock, words.short, words.dollars, words.span, words.in_link):
            environment.filters[function.__name__] = function
        return environment
