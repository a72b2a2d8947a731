// What the Worker is configured with, and what of it the container is told.

import type { Agent } from "./agent";

/** Bindings and variables. All of moltworker's keep their names; every one but AGENT is optional here, see `problems`. */
export interface Env {
  AGENT: DurableObjectNamespace<Agent>;

  /** Cloudflare Access: who is let in. */
  CF_ACCESS_TEAM_DOMAIN?: string;
  CF_ACCESS_AUD?: string;

  /** `one` (default): everyone talks to the same agent. `per-user`: everyone has one of his own. */
  AGENTS?: string;
  /** Webhooks: paths that are forwarded without asking who it is. The container reads the same list. */
  MOLTINIT_PUBLIC_PATHS?: string;
  /** `never` (default, as moltworker's) or how long an agent may be idle before it sleeps: `10m`, `2h`. */
  SANDBOX_SLEEP_AFTER?: string;

  /** R2. With CF_R2_API_TOKEN the container gets keys that expire and reach its own prefix only. */
  CF_ACCOUNT_ID?: string;
  R2_ACCESS_KEY_ID?: string;
  R2_SECRET_ACCESS_KEY?: string;
  R2_BUCKET_NAME?: string;
  CF_R2_API_TOKEN?: string;

  MOLTINIT_OPERATOR_TOKEN?: string;
  MOLTBOT_GATEWAY_TOKEN?: string;
  OPENCLAW_GATEWAY_TOKEN?: string;
}

/** moltworker's variables, those of Access and of any S3 server, as the container knows them. `MOLTINIT_*` is passed on as a whole. */
export const PASSED_ON = [
  "AI_GATEWAY_API_KEY",
  "AI_GATEWAY_BASE_URL",
  "ANTHROPIC_API_KEY",
  "ANTHROPIC_BASE_URL",
  "AWS_ACCESS_KEY_ID",
  "AWS_REGION",
  "AWS_SECRET_ACCESS_KEY",
  "AWS_SESSION_TOKEN",
  "CDP_SECRET",
  "CF_ACCESS_AUD",
  "CF_ACCESS_TEAM_DOMAIN",
  "CF_ACCOUNT_ID",
  "CF_AI_GATEWAY_ACCOUNT_ID",
  "CF_AI_GATEWAY_GATEWAY_ID",
  "CF_AI_GATEWAY_MODEL",
  "CLOUDFLARE_AI_GATEWAY_API_KEY",
  "DEV_MODE",
  "DISCORD_BOT_TOKEN",
  "DISCORD_DM_POLICY",
  "MOLTBOT_GATEWAY_TOKEN",
  "OPENAI_API_KEY",
  "OPENCLAW_DEV_MODE",
  "OPENCLAW_GATEWAY_TOKEN",
  "R2_ACCESS_KEY_ID",
  "R2_BUCKET_NAME",
  "R2_SECRET_ACCESS_KEY",
  "SLACK_APP_TOKEN",
  "SLACK_BOT_TOKEN",
  "TELEGRAM_BOT_TOKEN",
  "TELEGRAM_DM_ALLOW_FROM",
  "TELEGRAM_DM_POLICY",
  "WORKER_URL",
] as const;

/** moltworker's default. */
export const BUCKET = "moltbot-data";

const AWAKE = "never";
const UNITS: Record<string, number> = { s: 1, m: 60, h: 3600, d: 86_400 };

/** Settings that are wrong or missing, in words; empty where the Worker can do its work. */
export function problems(env: Env): string[] {
  const found: string[] = [];
  for (const name of ["CF_ACCESS_TEAM_DOMAIN", "CF_ACCESS_AUD"] as const) {
    if (!env[name]) found.push(`${name} is not set: nobody can be let in`);
  }
  if (env.AGENTS !== undefined && env.AGENTS !== "one" && env.AGENTS !== "per-user") {
    found.push(`AGENTS is ${JSON.stringify(env.AGENTS)}; use one or per-user`);
  }
  if (sleepSeconds(env) === undefined) {
    found.push(`SANDBOX_SLEEP_AFTER is ${JSON.stringify(env.SANDBOX_SLEEP_AFTER)}; use never, or a time such as 10m`);
  }
  const r2 = ["R2_ACCESS_KEY_ID", "R2_SECRET_ACCESS_KEY", "CF_ACCOUNT_ID"] as const;
  const missing = r2.filter((name) => !env[name] && !(name === "R2_SECRET_ACCESS_KEY" && env.CF_R2_API_TOKEN));
  const bucket = (env as unknown as Record<string, unknown>)["MOLTINIT_BUCKET_URL"];
  if (missing.length > 0 && typeof bucket !== "string") {
    found.push(`${missing.join(", ")} not set: without R2 nothing outlives the container`);
  }
  return found;
}

/** Seconds of idleness before sleep; Infinity for `never`, undefined where it cannot be read. */
export function sleepSeconds(env: Env): number | undefined {
  const text = (env.SANDBOX_SLEEP_AFTER ?? AWAKE).trim();
  if (text === AWAKE || text === "") return Infinity;
  const match = /^(\d{1,6})([smhd])$/.exec(text);
  const seconds = match ? Number(match[1]) * (UNITS[match[2] ?? ""] ?? NaN) : NaN;
  return seconds >= 10 ? seconds : undefined;
}

/** What the container of an agent is told. `own` wins over what is configured for all. */
export function containerEnvironment(env: Env, own: Record<string, string | undefined>): Record<string, string> {
  const told: Record<string, string> = {};
  const configured = env as unknown as Record<string, unknown>;
  for (const [name, value] of Object.entries(configured)) {
    const wanted = name.startsWith("MOLTINIT_") || (PASSED_ON as readonly string[]).includes(name);
    if (wanted && typeof value === "string" && value !== "") told[name] = value;
  }
  for (const [name, value] of Object.entries(own)) {
    if (value === undefined) delete told[name];
    else told[name] = value;
  }
  return told;
}
