// One agent: one Durable Object, one container, one prefix in the bucket. The object starts the container, passes
// requests on, puts it to sleep and wakes it. What the agent is doing, moltinit knows.

import { Container } from "@cloudflare/containers";
import { mint, REPLACE_AFTER_SECONDS, REPLACE_AT_LAST_SECONDS } from "./credentials";
import { BUCKET, containerEnvironment, sleepSeconds, type Env } from "./environment";
import { isNavigation, refusal, waiting } from "./pages";
import { addressed, ONLY_AGENT, OWN_HEADERS } from "./routing";
import { type Activity, maySleep, nextCheck, remedy } from "./rules";
import { relay } from "./sockets";

const PORT = 8080;
const ACTIVITY = "/api/admin/activity";
const ANSWER_MS = 10_000;
/** For a stop with its last snapshot; moltinit's own grace is 25 s. */
const STOP_MS = 60_000;
const POLL_MS = 250;
/** With `never` the library still asks now and then; a day is as good as any. */
const NEVER_SECONDS = 24 * 3600;

/** What survives this object being evicted from memory. */
interface Life {
  /** Should it run? False while it sleeps. */
  wanted: boolean;
  /** Was it told to stop, and has not been started since? */
  stopping: boolean;
  /** When it was started last, seconds since 1970. */
  startedAt: number;
  /** Starts in a row that led to no answer. */
  failedStarts: number;
  /** Checks in a row without an answer. */
  unanswered: number;
  /** A digest of the settings that it was started with. */
  settings: string;
  /** Since when the agent has not said what it is doing; 0 where it has. */
  silentSince: number;
}

const NEW_LIFE: Life = { wanted: false, stopping: false, startedAt: 0, failedStarts: 0, unanswered: 0, settings: "", silentSince: 0 };

export class Agent extends Container<Env> {
  override defaultPort = PORT;
  private connections = 0;
  private settling: Promise<void> | undefined;

  constructor(ctx: DurableObjectState<object>, env: Env) {
    super(ctx, env);
    const seconds = sleepSeconds(env) ?? Infinity;
    this.sleepAfter = Number.isFinite(seconds) ? seconds : NEVER_SECONDS;
    this.renewActivityTimeout();
  }

  /** A request that the Worker has let in. */
  override async fetch(request: Request): Promise<Response> {
    const { name, origin, stranger } = addressed(request.headers);
    const known = await this.ctx.storage.get<string>("name");
    if (stranger && name !== ONLY_AGENT && known === undefined) {
      // Whoever knocks at made-up names makes no machine start.
      return refusal(request, 404, "not-found", "There is nothing under this path.");
    }
    if (known !== name) await this.ctx.storage.put("name", name);
    if (!stranger && (await this.ctx.storage.get("origin")) !== origin) await this.ctx.storage.put("origin", origin);
    if (!(await this.isUp())) {
      const up = this.wake();
      if (isNavigation(request)) {
        this.ctx.waitUntil(up.catch((error: unknown) => this.complain("start", error)));
        return waiting();
      }
      try {
        await up;
      } catch (error) {
        this.complain("start", error);
        return refusal(request, 503, "not-started", "The agent's machine did not start.", "Try again in a minute.");
      }
    }
    return this.pass(request);
  }

  /** What the object thinks, for the operator and for tests. */
  async describe(): Promise<Life & { running: boolean; connections: number }> {
    return { ...(await this.life()), running: this.running, connections: this.connections };
  }

  // -- start and stop

  /** Start the container and wait until its port answers; what is being restored then, moltinit says itself. */
  async wake(): Promise<void> {
    this.settling ??= this.getUp().finally(() => {
      this.settling = undefined;
    });
    await this.settling;
  }

  private async getUp(): Promise<void> {
    let life = await this.life();
    if (life.stopping) await this.gone(); // it seals; the next one carries on from there
    const fresh = !this.running;
    if (fresh) {
      this.envVars = await this.environment();
      life = { ...life, startedAt: seconds(), failedStarts: life.failedStarts + 1, unanswered: 0, silentSince: 0 };
      // Written down before: if this object dies now, the alarm finds it and goes on.
      await this.save({ ...life, wanted: true, stopping: false, settings: await this.settings() });
      await this.plan("check", nextCheck(life.failedStarts));
    }
    await this.startAndWaitForPorts(PORT);
    await this.save({ ...(await this.life()), wanted: true, failedStarts: 0, unanswered: 0 });
    if (fresh) await this.plan("check", nextCheck(0));
  }

  private async gone(): Promise<void> {
    for (let waited = 0; this.running && waited < STOP_MS; waited += POLL_MS) await scheduler.wait(POLL_MS);
    if (this.running) await this.destroy();
  }

  private async halt(): Promise<void> {
    await this.save({ ...(await this.life()), stopping: true });
    // SIGTERM: moltinit seals and ends by itself.
    await this.stop();
  }

  /** By the library, when nothing was asked of the container for `sleepAfter`. */
  override async onActivityExpired(): Promise<void> {
    if (!this.running || !Number.isFinite(sleepSeconds(this.env) ?? Infinity)) return;
    const activity = await this.activity();
    const life = await this.life();
    const silentFor = life.silentSince === 0 ? 0 : seconds() - life.silentSince;
    const verdict = maySleep(activity, this.connections, seconds(), silentFor);
    if (!verdict.sleep) {
      console.log(`stays awake: ${verdict.why}`);
      return;
    }
    this.deleteSchedules("check");
    this.deleteSchedules("jobIsDue");
    await this.save({ ...life, wanted: false });
    if (verdict.wakeAt !== undefined) await this.schedule(new Date(verdict.wakeAt * 1000), "jobIsDue");
    console.log(`sleeps${verdict.wakeAt === undefined ? "" : ` until ${new Date(verdict.wakeAt * 1000).toISOString()}`}`);
    await this.halt();
  }

  /** An alarm: a cron job or a heartbeat is about to be due. */
  async jobIsDue(): Promise<void> {
    this.renewActivityTimeout();
    await this.wake();
  }

  /** An alarm, once a minute while it should run: host restarts, rollouts and hangs happen without telling us. */
  async check(): Promise<void> {
    let life = await this.life();
    if (!life.wanted) return;
    if (life.stopping) return this.wake();
    const alive = this.running && (await this.ask("/livez")) !== undefined;
    const activity = alive ? await this.activity() : undefined;
    life = {
      ...life,
      unanswered: alive ? 0 : life.unanswered + 1,
      silentSince: activity?.known ? 0 : life.silentSince || seconds(),
    };
    await this.save(life);
    await this.plan("check", nextCheck(life.failedStarts));
    switch (remedy(this.running, life.unanswered)) {
      case "start":
        await this.wake();
        break;
      case "stop":
        console.error("no answer for three minutes: asked to stop");
        await this.halt();
        break;
      case "kill":
        console.error("no answer for five minutes: killed");
        await this.destroy();
        break;
      case "none":
        if (alive) await this.replaceIfStale(life, activity);
    }
  }

  /** New settings and new keys need a new container: started after the old one has sealed, in a quiet moment. */
  private async replaceIfStale(life: Life, activity: Activity | undefined): Promise<void> {
    const busy = activity === undefined || !activity.known || activity.busy;
    const age = this.temporaryKeys ? seconds() - life.startedAt : 0;
    const changed = life.settings !== (await this.settings());
    const due = changed || age >= REPLACE_AFTER_SECONDS;
    if (!due || (busy && age < REPLACE_AT_LAST_SECONDS)) return;
    console.log(`replaced: ${changed ? "its settings have changed" : "its keys run out"}`);
    await this.halt(); // the next check starts it again
    await this.plan("check", 5);
  }

  /** What was configured, as a digest: two are the same or not. */
  private async settings(): Promise<string> {
    const told = Object.entries(containerEnvironment(this.env, {})).sort(([a], [b]) => (a < b ? -1 : 1));
    const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(JSON.stringify(told)));
    return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  }

  // -- talking to the container

  private async pass(request: Request): Promise<Response> {
    this.renewActivityTimeout();
    const headers = new Headers(request.headers);
    for (const name of OWN_HEADERS) headers.delete(name);
    const passed = new Request(request.url.replace(/^https:/, "http:"), new Request(request, { headers, redirect: "manual" }));
    let response: Response;
    try {
      response = await this.machine.getTcpPort(PORT).fetch(passed as unknown as Request);
    } catch (error) {
      this.complain("request", error);
      return refusal(request, 503, "unreachable", "The agent's machine does not answer.", "Try again in a minute.");
    }
    if (response.webSocket === null) return response;
    return relay(response, {
      opened: () => (this.connections += 1),
      heard: () => this.renewActivityTimeout(),
      closed: () => {
        this.connections -= 1;
        this.renewActivityTimeout();
      },
    });
  }

  private async activity(): Promise<Activity | undefined> {
    return this.ask<Activity>(ACTIVITY);
  }

  /** JSON from moltinit as an operator, without counting as activity; undefined where it does not answer. */
  private async ask<T = unknown>(path: string): Promise<T | undefined> {
    if (!this.running) return undefined;
    try {
      const response = await this.machine.getTcpPort(PORT).fetch(`http://container${path}`, {
        headers: { Authorization: `Bearer ${await this.operatorToken()}` },
        signal: AbortSignal.timeout(ANSWER_MS),
      });
      if (response.ok) return await response.json<T>();
      await response.body?.cancel();
      console.error(`${path}: ${response.status}`);
    } catch (error) {
      this.complain(path, error);
    }
    return undefined;
  }

  // -- what the container is told

  private async environment(): Promise<Record<string, string>> {
    const name = (await this.ctx.storage.get<string>("name")) ?? ONLY_AGENT;
    const origin = await this.ctx.storage.get<string>("origin");
    const own: Record<string, string | undefined> = { MOLTINIT_OPERATOR_TOKEN: await this.operatorToken() };
    const configured = this.env as unknown as Record<string, unknown>;
    if (configured["WORKER_URL"] === undefined && origin !== undefined) own["WORKER_URL"] = origin;
    const bucket = this.env.R2_BUCKET_NAME ?? BUCKET;
    // One agent has the bucket to itself, as moltworker's had; several have a prefix each.
    const prefix = name === ONLY_AGENT ? "" : `agents/${name}`;
    if (prefix !== "") {
      const base = configured["MOLTINIT_BUCKET_URL"];
      own["MOLTINIT_BUCKET_URL"] = `${typeof base === "string" ? base.replace(/\/+$/, "") : `s3://${bucket}`}/${prefix}`;
    }
    if (this.temporaryKeys) Object.assign(own, await this.temporary(bucket, prefix));
    return containerEnvironment(this.env, own);
  }

  private get temporaryKeys(): boolean {
    return Boolean(this.env.CF_R2_API_TOKEN && this.env.R2_ACCESS_KEY_ID && this.env.CF_ACCOUNT_ID);
  }

  private async temporary(bucket: string, prefix: string): Promise<Record<string, string | undefined>> {
    const account = this.env.CF_ACCOUNT_ID ?? "";
    const keys = await mint({
      account,
      apiToken: this.env.CF_R2_API_TOKEN ?? "",
      parentAccessKeyId: this.env.R2_ACCESS_KEY_ID ?? "",
      bucket,
      prefix,
    });
    return {
      MOLTINIT_BUCKET_URL: `s3://${bucket}${prefix === "" ? "" : `/${prefix}`}`,
      MOLTINIT_S3_ENDPOINT_URL: `https://${account}.r2.cloudflarestorage.com`,
      AWS_ACCESS_KEY_ID: keys.accessKeyId,
      AWS_SECRET_ACCESS_KEY: keys.secretAccessKey,
      AWS_SESSION_TOKEN: keys.sessionToken,
      R2_ACCESS_KEY_ID: undefined,
      R2_SECRET_ACCESS_KEY: undefined,
      R2_BUCKET_NAME: undefined,
    };
  }

  /** The operator's, or one that nobody else knows, of this agent alone. */
  private async operatorToken(): Promise<string> {
    const { MOLTINIT_OPERATOR_TOKEN: own, OPENCLAW_GATEWAY_TOKEN: gateway, MOLTBOT_GATEWAY_TOKEN: old } = this.env;
    // The agent knows the gateway's token: whoever talks it into telling must not be an operator by it.
    if (own && own !== gateway && own !== old) return own;
    let token = await this.ctx.storage.get<string>("token");
    if (token === undefined) {
      token = [...crypto.getRandomValues(new Uint8Array(32))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
      await this.ctx.storage.put("token", token);
    }
    return token;
  }

  // -- small things

  private get machine(): globalThis.Container {
    if (this.ctx.container === undefined) throw new Error("this Durable Object has no container");
    return this.ctx.container;
  }

  private get running(): boolean {
    return this.machine.running;
  }

  private async isUp(): Promise<boolean> {
    return this.running && this.settling === undefined && !(await this.life()).stopping;
  }

  private async life(): Promise<Life> {
    return (await this.ctx.storage.get<Life>("life")) ?? NEW_LIFE;
  }

  private async save(life: Life): Promise<void> {
    await this.ctx.storage.put("life", life);
  }

  private async plan(method: "check", delay: number): Promise<void> {
    this.deleteSchedules(method);
    await this.schedule(delay, method);
  }

  private complain(what: string, error: unknown): void {
    console.error(`${what}: ${error instanceof Error ? error.message : String(error)}`);
  }

  override onError(error: unknown): void {
    this.complain("container", error);
  }
}

function seconds(): number {
  return Date.now() / 1000;
}
