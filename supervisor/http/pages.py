"""The page that a browser sees while the agent is not there: small, without scripts, it reloads itself."""

from __future__ import annotations

from html import escape

REFRESH_SECONDS = 2

STYLE = (
    ":root{color-scheme:light dark}"
    "body{font:16px/1.5 system-ui,sans-serif;display:grid;place-items:center;min-height:100vh;margin:0;"
    "color:#2b2b2b;background:#fafafa}"
    "main{box-sizing:border-box;width:100%;max-width:26rem;padding:1.5rem;text-align:center}"
    "h1{font-size:1.4rem;margin:0 0 .5rem}p{margin:.5rem 0;overflow-wrap:anywhere}small{color:#6a6a6a}"
    "i{display:block;width:2.5rem;height:2.5rem;margin:0 auto 1.5rem;border-radius:50%;"
    "border:3px solid #8885;border-top-color:currentColor;animation:turn 1.2s linear infinite}"
    "@keyframes turn{to{transform:rotate(1turn)}}"
    "@media(prefers-reduced-motion:reduce){i{animation:none}}"
    "@media(prefers-color-scheme:dark){body{color:#e4e4e4;background:#161616}small{color:#9a9a9a}}"
)
STYLE_HASH = "sha256-TRKYS+fCeqLkcoezyWAngAoDjHOH6x2UA4Dy5Stv9cQ="
"""Of `STYLE`, written down: this module is needed before there is time to import a hash function."""

CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; style-src '{STYLE_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Retry-After": str(REFRESH_SECONDS),
}

_WORDS = {
    "boot": ("The machine is waking up.", "This usually takes less than a second."),
    "claim": (
        "Taking over from the machine before.",
        "This usually takes a second; up to half a minute if it is busy.",
    ),
    "restore": ("Bringing back everything the agent knows.", "This usually takes a few seconds."),
    "configure": ("Applying the settings.", "This usually takes less than a second."),
    "launch": ("Starting the agent.", "This usually takes about ten seconds."),
    "serve": ("The agent is not answering; it is being looked after.", "A restart usually takes about ten seconds."),
    "drain": ("This machine is going away; the next one carries on.", "The next one usually answers within a minute."),
    "seal": ("Saving everything; the next machine carries on.", "The next one usually answers within a minute."),
}
_UNKNOWN = ("The agent is not available.", "This page tries again by itself.")


def waiting_page(phase: str) -> bytes:
    """A page that says where the boot is and how long that takes, and reloads itself every two seconds."""
    words, time = _WORDS.get(phase, _UNKNOWN)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="{REFRESH_SECONDS}">
<meta name="viewport" content="width=device-width,initial-scale=1"><meta name="robots" content="noindex">
<title>One moment</title><style>{STYLE}</style></head>
<body><main><i aria-hidden="true"></i><h1>One moment</h1><p role="status">{escape(words)}</p><p>{escape(time)}</p>
<small>phase: {escape(phase)}</small></main></body>
</html>
""".encode()
