// What is missing before `wrangler deploy`? `npm run deploy-check` (or `make deploy-check`) says so, and changes nothing.
// Values of secrets cannot be read back from Cloudflare and are not asked for: only their names.

import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { promisify } from "node:util";

const run = promisify(execFile);

const PROVIDERS = [
  ["ANTHROPIC_API_KEY"],
  ["OPENAI_API_KEY"],
  ["CLOUDFLARE_AI_GATEWAY_API_KEY", "CF_AI_GATEWAY_ACCOUNT_ID", "CF_AI_GATEWAY_GATEWAY_ID"],
  ["AI_GATEWAY_API_KEY", "AI_GATEWAY_BASE_URL"],
];
const PAIRS = [["SLACK_BOT_TOKEN", "SLACK_APP_TOKEN"]];

/** Comments out of JSONC, commas before a closing bracket too; strings stay. */
export function plainJson(text) {
  return text
    .replace(/("(?:\\.|[^"\\])*")|\/\/[^\n]*|\/\*[\s\S]*?\*\//g, (_, string) => string ?? "")
    .replace(/("(?:\\.|[^"\\])*")|,(\s*[}\]])/g, (_, string, end) => string ?? end);
}

/**
 * What is wrong, most important first; each `{ level: "error" | "warning", message, fix }`.
 *
 * names: every secret and variable that the Worker will have. vars: the variables' values, where they can be read.
 */
export function findings(names, vars, config) {
  const has = (name) => names.has(name);
  const found = [];
  const error = (message, fix) => found.push({ level: "error", message, fix });
  const warning = (message, fix) => found.push({ level: "warning", message, fix });
  const put = (...list) => list.map((name) => `npx wrangler secret put ${name}`).join("\n      ");

  const access = ["CF_ACCESS_TEAM_DOMAIN", "CF_ACCESS_AUD"].filter((name) => !has(name));
  if (access.length > 0) error(`${access.join(" and ")} not set: nobody is let in`, put(...access));

  const needed = ["CF_ACCOUNT_ID", "R2_ACCESS_KEY_ID", ...(has("CF_R2_API_TOKEN") ? [] : ["R2_SECRET_ACCESS_KEY"])];
  const r2 = needed.filter((name) => !has(name));
  if (r2.length > 0 && !has("MOLTINIT_BUCKET_URL")) {
    error(`${r2.join(", ")} not set: without R2 nothing outlives the container`, put(...r2));
  }
  if (!PROVIDERS.some((group) => group.every(has))) {
    const begun = PROVIDERS.find((group) => group.some(has));
    if (begun) error(`${begun.filter((name) => !has(name)).join(", ")} not set beside ${begun.filter(has).join(", ")}`, put(...begun.filter((name) => !has(name))));
    else warning("no model provider is set: the agent has nothing to think with", put("ANTHROPIC_API_KEY"));
  }
  for (const pair of PAIRS) {
    const missing = pair.filter((name) => !has(name));
    if (missing.length === 1) error(`${missing[0]} not set: Slack needs both tokens`, put(...missing));
  }
  for (const name of ["E2E_TEST_MODE", "DEBUG_ROUTES"]) {
    if (has(name)) warning(`${name} is set: moltworker opened doors with it; here it opens nothing`, `npx wrangler secret delete ${name}`);
  }
  const sleep = vars.get("SANDBOX_SLEEP_AFTER");
  if (sleep !== undefined && !/^(never|\d{1,6}[smhd])$/.test(sleep)) {
    error(`SANDBOX_SLEEP_AFTER is ${JSON.stringify(sleep)}`, "use never, or a time such as 10m");
  }
  const agents = vars.get("AGENTS") ?? "one";
  if (!["one", "per-user"].includes(agents)) error(`AGENTS is ${JSON.stringify(agents)}`, "use one or per-user");
  const [container] = config.containers ?? [];
  if (container === undefined) error("wrangler.jsonc names no container", "take the one from the repository");
  else {
    if (["lite", "dev", "basic"].includes(container.instance_type)) {
      error(`instance_type ${container.instance_type} has 1 GiB of memory or less; a gateway alone takes 1 GB`, 'use "standard-1"');
    }
    if (agents === "per-user" && (container.max_instances ?? 1) < 2) {
      warning("AGENTS is per-user and max_instances is 1: the second user finds no machine", "raise max_instances in wrangler.jsonc");
    }
  }
  return found;
}

async function tried(command, args, options = {}) {
  try {
    return { ok: true, text: (await run(command, args, { timeout: 60_000, ...options })).stdout };
  } catch (error) {
    return { ok: false, text: String(error.stderr || error.message).trim().split("\n")[0] };
  }
}

async function main() {
  const here = new URL(".", import.meta.url);
  const config = JSON.parse(plainJson(await readFile(new URL("wrangler.jsonc", here), "utf8")));
  const found = [];
  const docker = process.env.WRANGLER_DOCKER_BIN ?? "docker";
  if (!(await tried(docker, ["info"])).ok) {
    found.push({ level: "error", message: `${docker} does not run: wrangler builds the image with it`, fix: "start Docker, or name another with WRANGLER_DOCKER_BIN" });
  }
  const names = new Set(Object.keys(config.vars ?? {}));
  const vars = new Map(Object.entries(config.vars ?? {}));
  const listed = await tried("npx", ["wrangler", "secret", "list", "--format", "json"], { cwd: here });
  let secrets;
  try {
    secrets = listed.ok ? JSON.parse(listed.text) : undefined;
  } catch {
    secrets = undefined;
  }
  if (Array.isArray(secrets)) {
    for (const { name } of secrets) names.add(name);
    found.push(...findings(names, vars, config));
  } else {
    found.push({ level: "error", message: "the Worker's secrets cannot be listed (not logged in, or no secret was ever set)", fix: "npx wrangler login, then set the first secret" });
    found.push(...findings(names, vars, config));
  }
  for (const { level, message, fix } of found) {
    console.log(`${level}: ${message}\n      ${fix}`);
  }
  const errors = found.filter(({ level }) => level === "error").length;
  console.log(errors === 0 ? "ready: npx wrangler deploy" : `${errors} to be put right first`);
  return errors === 0 ? 0 : 1;
}

if (process.argv[1] === new URL(import.meta.url).pathname) process.exitCode = await main();
