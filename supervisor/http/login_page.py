"""How the login page looks: HTML without a script, styles that the policy knows by their hash."""

from __future__ import annotations

import base64
import hashlib
from html import escape

STYLE = """
:root{color-scheme:light dark;--ground:#f4f1ec;--card:#fffdfa;--ink:#1f1b16;--soft:#6b6259;--line:#d9d0c5;
--edge:#8f8578;--accent:#b3361f;--on-accent:#fff;--wrong:#a3200d;--wrong-ground:#fdeae6}
@media(prefers-color-scheme:dark){:root{--ground:#151311;--card:#1f1c19;--ink:#f1ebe3;--soft:#a99f93;--line:#3c362f;
--edge:#857b6f;--accent:#ff8a6b;--on-accent:#2a0d05;--wrong:#ffb4a2;--wrong-ground:#3a1a12}}
*{box-sizing:border-box}
body{margin:0;min-height:100vh;min-height:100dvh;display:grid;place-items:center;padding:1.25rem;
background:var(--ground);color:var(--ink);font:1rem/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{width:100%;max-width:25rem;background:var(--card);border:1px solid var(--line);border-radius:1rem;
padding:2.25rem 2rem 2rem;box-shadow:0 1px 2px #0001,0 12px 32px #00000014}
.mark{display:block;width:2.75rem;height:2.75rem;color:var(--accent);margin-bottom:1.25rem}
h1{margin:0 0 .25rem;font-size:1.5rem;line-height:1.2;letter-spacing:-.01em}
p{margin:0;color:var(--soft)}
form{margin-top:1.5rem;display:grid;gap:.5rem}
label{font-weight:600}
input{width:100%;font:inherit;font-size:1rem;color:inherit;background:var(--ground);border:1px solid var(--edge);
border-radius:.6rem;padding:.7rem .85rem}
.who{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
button,.button{font:inherit;font-weight:600;min-height:2.9rem;padding:.65rem 1rem;border-radius:.6rem;cursor:pointer;
border:1px solid transparent;background:var(--accent);color:var(--on-accent);width:100%;display:block;
text-align:center;text-decoration:none}
form button{margin-top:.75rem}
.quiet{background:transparent;color:inherit;border-color:var(--edge)}
button:hover,.button:hover{filter:brightness(1.08)}
:focus-visible{outline:3px solid var(--accent);outline-offset:2px}
.wrong{margin-top:1.25rem;padding:.7rem .85rem;border-radius:.6rem;background:var(--wrong-ground);color:var(--wrong);
font-weight:600}
.help{margin-top:1.5rem;padding-top:1.25rem;border-top:1px solid var(--line);font-size:.875rem}
code{font:.95em/1 ui-monospace,SFMono-Regular,Menlo,monospace;overflow-wrap:anywhere;color:var(--ink)}
@media(max-width:26rem){body{padding:0;place-items:stretch}main{border:0;border-radius:0;box-shadow:none;
padding:3rem 1.5rem 2rem;max-width:none}}
@media(forced-colors:active){main,input,button,.button{border:1px solid}}
"""

_STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()

HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    # Not `no-referrer`: a form would be sent with the Origin `null`, and be refused as another site's.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Robots-Tag": "noindex",
}

_MARK = (
    '<svg class="mark" viewBox="0 0 48 48" fill="currentColor" aria-hidden="true">'
    '<path d="M16 46c0-6 1-10 3-13C9 30 4 20 8 5c6 2 9 7 10 13 3-8 9-13 18-14 2 4 2 7 1 10l-11 6 13-2'
    'c3 9-3 16-11 17-2 3-3 6-3 11z"/></svg>'
)


def form(where: str, *, problem: str = "") -> str:
    """The page that asks for the token.

    Args:
        where: the path to go to afterwards.
        problem: what was wrong with the last attempt.
    """
    alert = f'<p class="wrong" role="alert" id="problem">{escape(problem)}</p>' if problem else ""
    described = "problem help" if problem else "help"
    invalid = ' aria-invalid="true"' if problem else ""
    return _document(
        ("Not signed in - " if problem else "") + "Sign in",
        f"""<h1>Sign in</h1>
<p>to your agent and its admin page.</p>
{alert}
<form method="post" action="/_admin/login">
<input type="hidden" name="next" value="{escape(where)}">
<input class="who" type="text" name="username" value="operator" autocomplete="username" tabindex="-1" aria-hidden="true"
 readonly>
<label for="token">Operator token</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus spellcheck="false"
 autocapitalize="off" aria-describedby="{described}"{invalid}>
<button type="submit">Sign in</button>
</form>
<p class="help" id="help">It is the value of <code>MOLTINIT_OPERATOR_TOKEN</code>, or else of the gateway token, where
the agent was set up. This browser stays signed in for seven days.</p>""",
    )


def signed_in(where: str) -> str:
    """The page for somebody who has a session already."""
    return _document(
        "Signed in",
        f"""<h1>You are signed in</h1>
<p>in this browser, as the operator.</p>
<form method="post" action="/_admin/logout">
<a class="button" href="{escape(where)}">Continue</a>
<button class="quiet" type="submit">Sign out</button>
</form>""",
    )


def refusal(message: str, hint: str) -> str:
    """The page for somebody who is not let in, and for whom there is nothing to fill in."""
    return _document(
        "Not let in",
        f"""<h1>You are not let in</h1>
<p>{escape(message)}</p>
<p class="help">{escape(hint)}</p>""",
    )


def bounce(where: str) -> str:
    """A page that opens `where` from here, so that the browser takes it for our own link and sends its cookie along."""
    return _document(
        "One moment",
        f'<h1>One moment</h1>\n<p><a href="{escape(where)}">Continue</a></p>',
        head=f'<meta http-equiv="refresh" content="0;url={escape(where)}">\n',
    )


def _document(title: str, body: str, *, head: str = "") -> str:
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1">
<meta name="color-scheme" content="light dark">
{head}<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
{_MARK}
{body}
</main>
</body>
</html>
"""
