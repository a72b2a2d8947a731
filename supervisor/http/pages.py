"""The page that a browser sees while the agent is not there: small, without scripts, it reloads itself."""

from __future__ import annotations

from html import escape

REFRESH_SECONDS = 2

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
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
    "boot": "The machine is waking up.",
    "claim": "Taking over from the machine before.",
    "restore": "Bringing back everything the agent knows.",
    "configure": "Applying the settings.",
    "launch": "Starting the agent.",
    "serve": "The agent is not answering; it is being looked after.",
    "drain": "This machine is going away; the next one carries on.",
    "seal": "Saving everything; the next machine carries on.",
}


def waiting_page(phase: str) -> bytes:
    """A page that says where the boot is and reloads itself every two seconds."""
    words = _WORDS.get(phase, "The agent is not available.")
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="{REFRESH_SECONDS}">
<meta name="viewport" content="width=device-width,initial-scale=1"><title>One moment</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;display:grid;place-items:center;min-height:90vh;margin:0;
color:#333;background:#fafafa}}main{{text-align:center;padding:1em}}small{{color:#777}}
@media(prefers-color-scheme:dark){{body{{color:#ddd;background:#161616}}}}</style></head>
<body><main><h1>One moment</h1><p>{escape(words)}</p><small>phase: {escape(phase)}</small></main></body>
</html>
""".encode()
