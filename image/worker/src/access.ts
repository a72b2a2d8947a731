// Cloudflare Access: who is asking. Nothing is woken, and no Durable Object is reached, before this has said yes.
// moltinit checks the same token again inside the container.

import { createRemoteJWKSet, errors, jwtVerify, type JWTVerifyGetKey } from "jose";

/** Who Access says it is: a person's e-mail address, or a service token's name. */
export interface Visitor {
  kind: "person" | "service";
  name: string;
}

export class Refused extends Error {
  constructor(
    readonly status: 401 | 403 | 503,
    message: string,
  ) {
    super(message);
  }
}

const HEADER = "Cf-Access-Jwt-Assertion";
const COOKIE = "CF_Authorization";

/** Access replaces its keys every six weeks and announces them a week ahead. */
const KEYS_LIVE_MS = 12 * 3600 * 1000;
/** An unknown key id is worth one question in this time: anybody can make one up. */
const COOLDOWN_MS = 30_000;
/** A token is 2 KiB; a longer one is not worth reading. */
const LONGEST_TOKEN = 16 * 1024;

const keySets = new Map<string, JWTVerifyGetKey>();

/** The team's address without a path, from `team`, `team.cloudflareaccess.com` or a URL; http only on loopback. */
export function teamOrigin(domain: string): string {
  const text = domain.trim().replace(/\/+$/, "");
  const url = new URL(/^[a-z]+:\/\//i.test(text) ? text : `https://${text.includes(".") ? text : `${text}.cloudflareaccess.com`}`);
  const loopback = url.hostname === "127.0.0.1" || url.hostname === "localhost";
  if (url.protocol !== "https:" && !(url.protocol === "http:" && loopback)) {
    throw new TypeError(`CF_ACCESS_TEAM_DOMAIN is ${JSON.stringify(domain)}; use https`);
  }
  return url.origin;
}

/** The visitor. Raises `Refused`: 401 without a good token, 503 where the keys cannot be had. */
export async function whoIs(request: Request, domain: string, audiences: string): Promise<Visitor> {
  const token = tokenOf(request.headers);
  if (token === undefined) throw new Refused(401, "There is no token of Cloudflare Access.");
  const origin = teamOrigin(domain);
  const audience = audiences.split(",").map((tag) => tag.trim()).filter((tag) => tag !== "");
  if (audience.length === 0) throw new Refused(503, "CF_ACCESS_AUD names no application.");
  try {
    const { payload } = await jwtVerify(token, keysOf(origin), {
      algorithms: ["RS256"],
      issuer: origin,
      audience,
      requiredClaims: ["exp", "iat"],
      clockTolerance: 30,
    });
    return visitorOf(payload);
  } catch (error) {
    if (error instanceof Refused) throw error;
    if (error instanceof errors.JWKSNoMatchingKey || !unreachable(error)) {
      throw new Refused(401, "The token of Cloudflare Access is not valid.");
    }
    throw new Refused(503, "The keys of Cloudflare Access cannot be had right now.");
  }
}

function visitorOf(payload: Record<string, unknown>): Visitor {
  const { email, common_name: service } = payload;
  if (typeof email === "string" && email.includes("@")) return { kind: "person", name: email.toLowerCase() };
  if (typeof service === "string" && service !== "") return { kind: "service", name: service };
  throw new Refused(403, "The token names neither a person nor a service.");
}

/** The header wins; two different cookies of the name are none. */
function tokenOf(headers: Headers): string | undefined {
  const offered = headers.get(HEADER) ?? cookieOf(headers.get("Cookie") ?? "");
  return offered !== undefined && offered.length <= LONGEST_TOKEN ? offered : undefined;
}

function cookieOf(text: string): string | undefined {
  const values = new Set<string>();
  for (const part of text.split(";")) {
    const at = part.indexOf("=");
    if (at > 0 && part.slice(0, at).trim() === COOKIE) values.add(part.slice(at + 1).trim());
  }
  return values.size === 1 ? [...values][0] : undefined;
}

function keysOf(origin: string): JWTVerifyGetKey {
  let keys = keySets.get(origin);
  if (keys === undefined) {
    const url = new URL("/cdn-cgi/access/certs", origin);
    keys = createRemoteJWKSet(url, { cacheMaxAge: KEYS_LIVE_MS, cooldownDuration: COOLDOWN_MS, timeoutDuration: 5000 });
    keySets.set(origin, keys);
  }
  return keys;
}

function unreachable(error: unknown): boolean {
  if (error instanceof errors.JWKSTimeout || error instanceof errors.JWKSInvalid) return true;
  // jose's own complaint about the answer of the keys' address, and the platform's about the network.
  if (error instanceof errors.JOSEError) return error.code === "ERR_JOSE_GENERIC";
  return true;
}
