// A Worker in workerd with everything around it: Access, the machines, R2's API. All on this machine, all in this process.

import { createServer } from "node:http";
import { build } from "esbuild";
import { exportJWK, generateKeyPair, SignJWT } from "jose";
import { Miniflare, Response } from "miniflare";
import { fileURLToPath } from "node:url";

export const TEAM = "https://team.cloudflareaccess.com";
export const AUDIENCE = "aud-of-the-application";
export const ORIGIN = "https://claw.example.com";

const script = await build({
  entryPoints: [fileURLToPath(new URL("worker.ts", import.meta.url))],
  bundle: true,
  format: "esm",
  target: "es2022",
  external: ["cloudflare:workers"],
  write: false,
}).then((result) => result.outputFiles[0].text);

/** Access's side: keys, tokens signed with them, and a count of the questions. */
export async function access() {
  const { publicKey, privateKey } = await generateKeyPair("RS256", { extractable: true });
  const stranger = await generateKeyPair("RS256", { extractable: true });
  const jwk = { ...(await exportJWK(publicKey)), kid: "key-1", alg: "RS256", use: "sig" };
  const now = () => Math.floor(Date.now() / 1000);
  const sign = (claims, { key = privateKey, header = {} } = {}) =>
    new SignJWT({ iss: TEAM, aud: [AUDIENCE], iat: now(), exp: now() + 600, email: "alice@example.com", ...claims })
      .setProtectedHeader({ alg: "RS256", kid: "key-1", ...header })
      .sign(key);
  return { jwk, publicKey, stranger: stranger.privateKey, sign, asked: 0, down: false };
}

/** The machines behind the objects, by the name of the agent. */
export class Machines {
  events = [];
  environments = new Map();
  activity = { known: true, busy: false, doing: [], next_wake: null };
  silent = false;
  answer = async (name, request) => Response.json({ name, path: new URL(request.headers.get("test-url")).pathname });

  async serve(request) {
    const name = request.headers.get("test-machine");
    const { pathname } = new URL(request.url);
    if (pathname !== "/request") {
      const document = await request.json();
      if (pathname === "/start") this.environments.set(name, document);
      this.events.push(`${name} ${pathname.slice(1)}${document.number ? ` ${document.number}` : ""}`);
      return new Response("ok");
    }
    const url = new URL(request.headers.get("test-url"));
    if (url.hostname === "ping" || url.hostname === "containerstarthealthcheck") return new Response("up");
    if (url.hostname === "container") {
      if (this.silent) return new Response("no", { status: 502 });
      const token = this.environments.get(name)?.MOLTINIT_OPERATOR_TOKEN;
      if (request.headers.get("Authorization") !== `Bearer ${token}`) return new Response("who?", { status: 401 });
      return Response.json(url.pathname === "/livez" ? { ok: true } : this.activity);
    }
    return this.answer(name, request);
  }

  starts(name) {
    return this.events.filter((event) => event === `${name} start`).length;
  }
}

/** The whole; `close` it. */
export async function world(bindings = {}) {
  const keys = await access();
  const machines = new Machines();
  const api = [];
  const miniflare = new Miniflare({
    modules: true,
    script,
    compatibilityDate: "2025-11-01",
    durableObjects: { AGENT: { className: "Sandbox", useSQLite: true } },
    bindings: {
      CF_ACCESS_TEAM_DOMAIN: TEAM,
      CF_ACCESS_AUD: AUDIENCE,
      CF_ACCOUNT_ID: "0".repeat(32),
      R2_ACCESS_KEY_ID: "long-lived-id",
      R2_SECRET_ACCESS_KEY: "long-lived-secret",
      ...bindings,
    },
    serviceBindings: { MACHINE: (request) => machines.serve(request) },
    outboundService: async (request) => {
      const url = new URL(request.url);
      if (url.href === `${TEAM}/cdn-cgi/access/certs`) {
        keys.asked += 1;
        return keys.down ? new Response("down", { status: 503 }) : Response.json({ keys: [keys.jwk] });
      }
      if (url.hostname === "api.cloudflare.com") {
        api.push({ path: url.pathname, authorization: request.headers.get("Authorization"), ...(await request.json()) });
        return Response.json({ result: { accessKeyId: "short-id", secretAccessKey: "short-secret", sessionToken: "short-token" } });
      }
      return new Response("nobody is there", { status: 599 });
    },
  });
  const get = async (path, { token, headers = {}, ...init } = {}) =>
    miniflare.dispatchFetch(ORIGIN + path, {
      redirect: "manual",
      ...init,
      headers: { ...(token ? { "Cf-Access-Jwt-Assertion": token } : {}), ...headers },
    });
  const tell = async (name, method) =>
    (await (await miniflare.dispatchFetch(`https://test.invalid/${name}/${method}`)).json()).result;
  return { keys, machines, api, miniflare, get, tell, close: () => miniflare.dispose() };
}

/** Wait until it is so. */
export async function until(what, condition, milliseconds = 5000) {
  const deadline = Date.now() + milliseconds;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`not within ${milliseconds} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

export { createServer };
