// Which agent a request is for, and what is never asked of one.

import type { Visitor } from "./access";
import { Refused } from "./access";

/** moltworker's name of its only sandbox, so that a Worker that takes over keeps its object. */
export const ONLY_AGENT = "moltbot";

export interface Target {
  agent: string;
  /** What is asked of the agent, where it differs from the request's own path. */
  path: string;
  /** Reached without a visitor: only an agent that lives already may answer. */
  open: boolean;
}

/** The path, or undefined where two readers could read it differently: then it is not public for anybody. */
export function clearPath(url: URL): string | undefined {
  const path = url.pathname;
  return /%(2e|2f|5c|00|25)|\\|\/\/|\/\.{1,2}(\/|$)/i.test(path) ? undefined : path;
}

/** Is it one of the public paths? As moltinit reads the same list: `/hooks/telegram` is one, `/hooks/*` all below. */
export function isPublic(path: string, list: string): boolean {
  return list
    .split(/[,\n]/)
    .map((entry) => entry.trim())
    .filter((entry) => entry.startsWith("/") && entry.length > 2)
    .some((entry) => (entry.endsWith("/*") ? path.startsWith(entry.slice(0, -1)) && path.length >= entry.length : path === entry));
}

/** A name for an object and a prefix in the bucket, that does not give away the address. */
export async function agentOf(visitor: Visitor): Promise<string> {
  if (visitor.kind !== "person") {
    throw new Refused(403, "A service token has no agent of its own.");
  }
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(visitor.name));
  const hex = [...new Uint8Array(digest).slice(0, 12)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return `user-${hex}`;
}

/** Where a webhook goes: `/telegram/hook`, or with an agent a user `/~user-.../telegram/hook`. */
export function openTarget(path: string, perUser: boolean, list: string): Target | undefined {
  if (!perUser) return isPublic(path, list) ? { agent: ONLY_AGENT, path, open: true } : undefined;
  const match = /^\/~(user-[0-9a-f]{24})(\/.+)$/.exec(path);
  const [, agent, rest] = match ?? [];
  return agent !== undefined && rest !== undefined && isPublic(rest, list)
    ? { agent, path: rest, open: true }
    : undefined;
}

const NAME = "x-moltinit-agent";
const ORIGIN = "x-moltinit-origin";
const STRANGER = "x-moltinit-stranger";

/** What only the Worker may tell the object, and nobody the container; the last one is the library's. */
export const OWN_HEADERS = [NAME, ORIGIN, STRANGER, "cf-container-target-port"] as const;

/** Headers of a request for the object of an agent. */
export function address(headers: Headers, target: Target, origin: string): Headers {
  const addressed = new Headers(headers);
  for (const name of OWN_HEADERS) addressed.delete(name);
  addressed.set(NAME, target.agent);
  addressed.set(ORIGIN, origin);
  if (target.open) addressed.set(STRANGER, "yes");
  return addressed;
}

/** What the Worker has told. */
export function addressed(headers: Headers): { name: string; origin: string; stranger: boolean } {
  return { name: headers.get(NAME) ?? ONLY_AGENT, origin: headers.get(ORIGIN) ?? "", stranger: headers.has(STRANGER) };
}
