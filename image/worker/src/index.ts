// The Worker: lets in who may come in, then hands the request to the agent's object. It reads no body and stores nothing.

import { Refused, whoIs, type Visitor } from "./access";
import type { Env } from "./environment";
import { problems } from "./environment";
import { refusal } from "./pages";
import { address, agentOf, clearPath, ONLY_AGENT, openTarget, type Target } from "./routing";

// Under moltworker's name of it: wrangler.jsonc says why.
export { Agent as Sandbox } from "./agent";

export default {
  async fetch(request, env): Promise<Response> {
    const url = new URL(request.url);
    // moltworker's clients ask this to see whether there is a Worker. It wakes nothing.
    if (url.pathname === "/sandbox-health") {
      return Response.json({ status: "ok", service: "moltbot-sandbox", gateway_port: 18789 });
    }
    try {
      return await admitted(request, url, env);
    } catch (error) {
      if (error instanceof Refused) return refusal(request, error.status, "refused", error.message);
      console.error(error);
      return refusal(request, 503, "failed", "The Worker failed.", "Its log says why: wrangler tail");
    }
  },
} satisfies ExportedHandler<Env>;

async function admitted(request: Request, url: URL, env: Env): Promise<Response> {
  const path = clearPath(url);
  const perUser = env.AGENTS === "per-user";
  const open = path === undefined ? undefined : openTarget(path, perUser, env.MOLTINIT_PUBLIC_PATHS ?? "");
  if (open !== undefined) return forward(request, url, env, open);
  const { CF_ACCESS_TEAM_DOMAIN: team, CF_ACCESS_AUD: audience } = env;
  if (!team || !audience) throw new Refused(503, "This Worker is not set up yet: npm run deploy-check says what is missing.");
  const visitor: Visitor = await whoIs(request, team, audience);
  const wrong = problems(env);
  if (wrong.length > 0) return refusal(request, 503, "settings", "This Worker is not set up yet.", wrong.join(" · "));
  const agent = perUser ? await agentOf(visitor) : ONLY_AGENT;
  return forward(request, url, env, { agent, path: url.pathname, open: false });
}

function forward(request: Request, url: URL, env: Env, target: Target): Promise<Response> {
  const inner = new URL(url);
  inner.pathname = target.path;
  const headers = address(request.headers, target, url.origin);
  return env.AGENT.getByName(target.agent).fetch(new Request(inner, new Request(request, { headers, redirect: "manual" })));
}
