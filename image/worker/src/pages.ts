// The two pages that the Worker shows by itself; everything else is moltinit's or the agent's.

const HEADERS = {
  "Content-Type": "text/html; charset=utf-8",
  "Cache-Control": "no-store",
  "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
  "Referrer-Policy": "no-referrer",
  "X-Content-Type-Options": "nosniff",
};

const STYLE = `<style>
  :root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
  main { max-width: 34rem; margin: 18vh auto; padding: 0 1.5rem }
</style>`;

/** Does a person look at this? */
export function isNavigation(request: Request): boolean {
  return (
    (request.method === "GET" || request.method === "HEAD") &&
    !request.headers.has("Upgrade") &&
    (request.headers.get("Accept") ?? "").includes("text/html")
  );
}

/** While the container boots; once its port answers, moltinit shows what it is doing. */
export function waiting(): Response {
  const body = `<!doctype html><html lang="en"><head><title>Waking up</title><meta http-equiv="refresh" content="2">
<meta name="viewport" content="width=device-width">${STYLE}</head>
<body><main><h1>Waking up</h1><p>Your agent was asleep. Its machine is starting; this page goes on by itself.</p></main></body></html>`;
  return new Response(body, { status: 503, headers: { ...HEADERS, "Retry-After": "2" } });
}

/** In words, as a page or as JSON. */
export function refusal(request: Request, status: number, code: string, message: string, hint = ""): Response {
  if (!isNavigation(request)) {
    return Response.json({ error: code, message, hint }, { status, headers: { "Cache-Control": "no-store" } });
  }
  const body = `<!doctype html><html lang="en"><head><title>${status}</title><meta name="viewport" content="width=device-width">${STYLE}</head>
<body><main><h1>${status}</h1><p>${escape(message)}</p><p>${escape(hint)}</p></main></body></html>`;
  return new Response(body, { status, headers: HEADERS });
}

function escape(text: string): string {
  return text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);
}
