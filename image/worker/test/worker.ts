// The Worker under test: the real one, on the real library, but for the machine behind the object. Offline there is no
// container engine, so `ctx.container` is played by whoever answers on the binding MACHINE: the test.

import { Agent } from "../src/agent";
import type { Env } from "../src/environment";
import worker from "../src/index";

interface TestEnv extends Env {
  MACHINE: Fetcher;
}

class Machine {
  running = false;
  private ended: ((error?: Error) => void) | undefined;

  constructor(
    private readonly name: () => Promise<string>,
    private readonly test: Fetcher,
  ) {}

  start(options?: { env?: Record<string, string> }): void {
    this.running = true;
    void this.tell("start", options?.env ?? {});
  }

  monitor(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.ended = (error) => (error ? reject(error) : resolve());
    });
  }

  getTcpPort(port: number): { fetch: typeof fetch } {
    const call = async (input: RequestInfo | URL, init?: RequestInit): Promise<Response> => {
      if (!this.running) throw new Error("the container is not running");
      const request = new Request(input as RequestInfo, init);
      const headers = new Headers(request.headers);
      headers.set("test-machine", await this.name());
      headers.set("test-url", request.url);
      headers.set("test-port", String(port));
      return this.test.fetch("http://machine/request", new Request(request, { headers }));
    };
    return { fetch: call as typeof fetch };
  }

  signal(number: number): void {
    void this.tell("signal", { number }).then(() => this.end());
  }

  async destroy(): Promise<void> {
    await this.tell("destroy", {});
    this.end();
  }

  end(): void {
    this.running = false;
    this.ended?.();
  }

  private async tell(what: string, document: object): Promise<void> {
    await this.test.fetch(`http://machine/${what}`, {
      method: "POST",
      headers: { "test-machine": await this.name() },
      body: JSON.stringify(document),
    });
  }
}

export class Sandbox extends Agent {
  private readonly played: Machine;

  constructor(ctx: DurableObjectState<object>, env: TestEnv) {
    const played = new Machine(async () => (await ctx.storage.get<string>("name")) ?? "", env.MACHINE);
    Object.defineProperty(ctx, "container", { value: played });
    super(ctx, env);
    this.played = played;
  }

  /** The machine is gone without anybody having asked for it: a host restart. */
  vanish(): void {
    this.played.end();
  }

  /** A job that is due at once, as far as the alarm is concerned. */
  async dueSoon(): Promise<void> {
    this.deleteSchedules("jobIsDue");
    await this.schedule(new Date(Date.now() + 1000), "jobIsDue");
  }

  /** The operator has put other secrets since the start. */
  async otherSecrets(): Promise<void> {
    const life = await this.ctx.storage.get<{ settings: string }>("life");
    await this.ctx.storage.put("life", { ...life, settings: "another digest" });
  }

  /** When each method is going to be called, seconds since 1970. */
  async plans(): Promise<Record<string, number | undefined>> {
    const [check] = await this.listSchedules("check");
    const [job] = await this.listSchedules("jobIsDue");
    return { check: check?.time, jobIsDue: job?.time };
  }
}

/** Test controls of an object, under a host that no visitor can name. */
async function control(request: Request, env: TestEnv): Promise<Response> {
  const [, name = "", method = ""] = new URL(request.url).pathname.split("/");
  const agent = env.AGENT.getByName(name) as unknown as Record<string, () => Promise<unknown>>;
  return Response.json({ result: (await agent[method]?.()) ?? null });
}

export default {
  fetch(request, env) {
    const { hostname } = new URL(request.url);
    return hostname === "test.invalid" ? control(request, env) : worker.fetch(request as never, env);
  },
} satisfies ExportedHandler<TestEnv>;
