import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { Response } from "miniflare";
import { until, world } from "./support.mjs";

let it;
afterEach(() => it.close());

const HTML = { Accept: "text/html" };
const soon = () => Date.now() / 1000;

async function awake(bindings = {}) {
  it = await world({ SANDBOX_SLEEP_AFTER: "10m", ...bindings });
  const token = await it.keys.sign({});
  assert.equal((await it.get("/x", { token })).status, 200);
  return token;
}

test("a person sees the waiting page at once, and the agent afterwards", async () => {
  it = await world();
  const token = await it.keys.sign({});
  const page = await it.get("/", { token, headers: HTML });
  assert.equal(page.status, 503);
  assert.match(await page.text(), /Waking up/);
  await until("it started", () => it.machines.starts("moltbot") === 1);
  await until("it is up", async () => (await it.get("/", { token, headers: HTML })).status === 200);
  assert.equal(it.machines.starts("moltbot"), 1);
});

test("many requests at once start one container", async () => {
  it = await world();
  const token = await it.keys.sign({});
  const answers = await Promise.all(Array.from({ length: 8 }, () => it.get("/x", { token })));
  assert.deepEqual(answers.map((answer) => answer.status), Array(8).fill(200));
  assert.equal(it.machines.starts("moltbot"), 1);
});

test("the container is told moltworker's variables and our own, and nothing else", async () => {
  await awake({ ANTHROPIC_API_KEY: "sk-ant", MOLTINIT_STOP_GRACE: "20s", TELEGRAM_DM_ALLOW_FROM: "1,2", CF_R2_API_TOKEN: "", SECRET_OF_ANOTHER: "x" });
  const told = it.machines.environments.get("moltbot");
  assert.equal(told.ANTHROPIC_API_KEY, "sk-ant");
  assert.equal(told.MOLTINIT_STOP_GRACE, "20s");
  assert.equal(told.TELEGRAM_DM_ALLOW_FROM, "1,2");
  assert.equal(told.WORKER_URL, "https://claw.example.com");
  assert.equal(told.R2_SECRET_ACCESS_KEY, "long-lived-secret");
  assert.equal(told.MOLTINIT_BUCKET_URL, undefined, "one agent has the bucket to itself, as moltworker's");
  assert.match(told.MOLTINIT_OPERATOR_TOKEN, /^[0-9a-f]{64}$/);
  assert.equal(told.SECRET_OF_ANOTHER, undefined);
});

test("an idle agent is put to sleep with SIGTERM, and a request wakes it", async () => {
  const token = await awake();
  await it.tell("moltbot", "onActivityExpired");
  assert.deepEqual(it.machines.events.slice(-1), ["moltbot signal 15"]);
  await until("it stopped", async () => !(await it.tell("moltbot", "describe")).running);
  assert.deepEqual(await it.tell("moltbot", "plans"), {}, "nothing wakes what nobody needs");
  assert.equal((await it.get("/x", { token })).status, 200);
  assert.equal(it.machines.starts("moltbot"), 2);
});

test("a busy agent is not put to sleep", async () => {
  await awake();
  it.machines.activity = { known: true, busy: true, doing: ["embeddedRuns"], next_wake: null };
  await it.tell("moltbot", "onActivityExpired");
  assert.ok(!it.machines.events.some((event) => event.includes("signal")));
});

test("an agent that does not say what it is doing is not put to sleep", async () => {
  await awake();
  it.machines.activity = { known: false, busy: true, doing: [], next_wake: null };
  await it.tell("moltbot", "onActivityExpired");
  it.machines.silent = true;
  await it.tell("moltbot", "onActivityExpired");
  assert.ok(!it.machines.events.some((event) => event.includes("signal")));
});

test("it sleeps until a minute before its next job, and is woken for it", async () => {
  await awake();
  const due = soon() + 3600;
  it.machines.activity.next_wake = due;
  await it.tell("moltbot", "onActivityExpired");
  const plans = await it.tell("moltbot", "plans");
  assert.ok(Math.abs(plans.jobIsDue - (due - 60)) <= 1, JSON.stringify(plans));
  await until("it stopped", async () => !(await it.tell("moltbot", "describe")).running);
  await it.tell("moltbot", "jobIsDue");
  assert.equal(it.machines.starts("moltbot"), 2);
  assert.ok((await it.tell("moltbot", "plans")).check, "and is looked after again");
});

test("the alarm goes off in an object that sleeps", async () => {
  await awake();
  it.machines.activity.next_wake = soon() + 3600;
  await it.tell("moltbot", "onActivityExpired");
  await until("it stopped", async () => !(await it.tell("moltbot", "describe")).running);
  await it.tell("moltbot", "dueSoon");
  await until("it was woken", () => it.machines.starts("moltbot") === 2, 15_000);
});

test("a job that is due soon is not worth a sleep", async () => {
  await awake();
  it.machines.activity.next_wake = soon() + 120;
  await it.tell("moltbot", "onActivityExpired");
  assert.ok(!it.machines.events.some((event) => event.includes("signal")));
});

test("by default it never sleeps, as with moltworker", async () => {
  await awake({ SANDBOX_SLEEP_AFTER: "never" });
  await it.tell("moltbot", "onActivityExpired");
  assert.ok(!it.machines.events.some((event) => event.includes("signal")));
});

test("a container that went away by itself is started again, without a visitor", async () => {
  await awake();
  await it.tell("moltbot", "vanish");
  await it.tell("moltbot", "check");
  assert.equal(it.machines.starts("moltbot"), 2);
});

test("a container that sleeps on purpose is left alone", async () => {
  await awake();
  await it.tell("moltbot", "onActivityExpired");
  await until("it stopped", async () => !(await it.tell("moltbot", "describe")).running);
  await it.tell("moltbot", "check");
  assert.equal(it.machines.starts("moltbot"), 1);
});

test("one that does not answer for three checks is asked to stop, and started again", async () => {
  await awake();
  it.machines.silent = true;
  for (let n = 0; n < 3; n += 1) await it.tell("moltbot", "check");
  assert.deepEqual(it.machines.events.slice(-1), ["moltbot signal 15"]);
  it.machines.silent = false;
  await until("it stopped", async () => !(await it.tell("moltbot", "describe")).running);
  await it.tell("moltbot", "check");
  assert.equal(it.machines.starts("moltbot"), 2);
});

test("new secrets reach the agent by themselves, once it is not busy", async () => {
  await awake();
  await it.tell("moltbot", "check");
  assert.equal(it.machines.events.length, 1, "nothing has changed");
  await it.tell("moltbot", "otherSecrets");
  it.machines.activity.busy = true;
  await it.tell("moltbot", "check");
  assert.equal(it.machines.events.length, 1, "not in the middle of a turn");
  it.machines.activity.busy = false;
  await it.tell("moltbot", "check");
  assert.deepEqual(it.machines.events.slice(1), ["moltbot signal 15"]);
  await it.tell("moltbot", "check");
  assert.equal(it.machines.starts("moltbot"), 2);
  await it.tell("moltbot", "check");
  assert.equal(it.machines.events.length, 3, "and then it is content");
});

test("each user has an agent and a prefix of his own", async () => {
  it = await world({ AGENTS: "per-user" });
  const [alice, bob] = [await it.keys.sign({}), await it.keys.sign({ email: "bob@example.com" })];
  const names = [];
  for (const token of [alice, bob, alice]) names.push((await (await it.get("/x", { token })).json()).name);
  assert.equal(names[0], names[2]);
  assert.notEqual(names[0], names[1]);
  assert.match(names[0], /^user-[0-9a-f]{24}$/);
  const [a, b] = names.map((name) => it.machines.environments.get(name));
  assert.equal(a.MOLTINIT_BUCKET_URL, `s3://moltbot-data/agents/${names[0]}`);
  assert.equal(b.MOLTINIT_BUCKET_URL, `s3://moltbot-data/agents/${names[1]}`);
  assert.notEqual(a.MOLTINIT_OPERATOR_TOKEN, b.MOLTINIT_OPERATOR_TOKEN);
  const service = await it.get("/x", { token: await it.keys.sign({ email: undefined, common_name: "ci" }) });
  assert.equal(service.status, 403, "a service has no agent of its own");
});

test("a webhook reaches the agent in its path, and a made-up agent costs no machine", async () => {
  it = await world({ AGENTS: "per-user", MOLTINIT_PUBLIC_PATHS: "/hook" });
  const { name } = await (await it.get("/x", { token: await it.keys.sign({}) })).json();
  assert.deepEqual(await (await it.get(`/~${name}/hook`)).json(), { name, path: "/hook" });
  assert.equal((await it.get(`/~${name}/other`)).status, 401);
  assert.equal((await it.get(`/~user-${"0".repeat(24)}/hook`)).status, 404);
  assert.deepEqual(it.machines.events, [`${name} start`]);
});

test("with an API token the container gets keys that expire, for its own prefix, and never the long-lived ones", async () => {
  it = await world({ AGENTS: "per-user", CF_R2_API_TOKEN: "api-token", R2_BUCKET_NAME: "claws" });
  const { name } = await (await it.get("/x", { token: await it.keys.sign({}) })).json();
  const told = it.machines.environments.get(name);
  assert.equal(told.AWS_SESSION_TOKEN, "short-token");
  assert.equal(told.AWS_SECRET_ACCESS_KEY, "short-secret");
  assert.equal(told.MOLTINIT_S3_ENDPOINT_URL, `https://${"0".repeat(32)}.r2.cloudflarestorage.com`);
  assert.ok(!JSON.stringify(told).includes("long-lived"), "none of the long-lived keys");
  assert.ok(!JSON.stringify(told).includes("api-token"));
  const [asked] = it.api;
  assert.equal(asked.authorization, "Bearer api-token");
  assert.deepEqual(asked.prefixes, [`agents/${name}/`]);
  assert.equal(asked.permission, "object-read-write");
  assert.equal(asked.bucket, "claws");
});

test("a WebSocket goes through both ways, and keeps the agent awake while it is open", async () => {
  const token = await awake();
  it.machines.answer = async () => {
    const [client, server] = Object.values(new (await import("miniflare")).WebSocketPair());
    server.accept();
    server.addEventListener("message", (event) => server.send(`heard ${event.data}`));
    server.addEventListener("close", () => server.close());
    return new Response(null, { status: 101, webSocket: client });
  };
  const response = await it.get("/ws", { token, headers: { Upgrade: "websocket" } });
  assert.equal(response.status, 101);
  const socket = response.webSocket;
  socket.accept();
  const heard = new Promise((resolve) => socket.addEventListener("message", (event) => resolve(event.data)));
  socket.send("hello");
  assert.equal(await heard, "heard hello");
  await it.tell("moltbot", "onActivityExpired");
  assert.ok(!it.machines.events.some((event) => event.includes("signal")), "it is open");
  socket.close(1000, "bye");
  await until("it is closed", async () => (await it.tell("moltbot", "describe")).connections === 0);
  await it.tell("moltbot", "onActivityExpired");
  assert.deepEqual(it.machines.events.slice(-1), ["moltbot signal 15"]);
});

test("a Worker that is not set up says so to who may know, and wakes nothing", async () => {
  it = await world({ SANDBOX_SLEEP_AFTER: "soon", R2_SECRET_ACCESS_KEY: "" });
  assert.equal((await it.get("/")).status, 401);
  const response = await it.get("/", { token: await it.keys.sign({}) });
  assert.equal(response.status, 503);
  const { hint } = await response.json();
  assert.match(hint, /SANDBOX_SLEEP_AFTER is "soon"/);
  assert.match(hint, /R2_SECRET_ACCESS_KEY/);
  assert.deepEqual(it.machines.events, []);
});
