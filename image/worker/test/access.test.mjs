import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { exportSPKI, SignJWT } from "jose";
import { AUDIENCE, TEAM, world } from "./support.mjs";

let it;
before(async () => {
  it = await world({ MOLTINIT_PUBLIC_PATHS: "/telegram/hook, /hooks/*" });
});
after(() => it.close());

const now = () => Math.floor(Date.now() / 1000);

test("without a token nobody comes in, nothing is woken, and Access is not even asked for its keys", async () => {
  for (const path of ["/", "/_admin/", "/api/status", "/livez", "/telegram", "/telegram/hooks", "/cdp?secret=x"]) {
    const response = await it.get(path);
    assert.equal(response.status, 401, path);
  }
  assert.deepEqual(it.machines.events, []);
  assert.equal(it.keys.asked, 0);
});

test("the Worker's own health is for everyone and wakes nothing", async () => {
  const response = await it.get("/sandbox-health");
  assert.equal((await response.json()).status, "ok");
  assert.deepEqual(it.machines.events, []);
});

test("a forged token is refused, whatever it forges", async () => {
  const { sign, stranger, publicKey } = it.keys;
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const claims = { iss: TEAM, aud: [AUDIENCE], iat: now(), exp: now() + 600, email: "eve@example.com" };
  const secret = new TextEncoder().encode(await exportSPKI(publicKey));
  const good = await sign({});
  const [header, , signature] = good.split(".");
  const forged = {
    "no signature": `${part({ alg: "none" })}.${part(claims)}.`,
    "none, with a key id": `${part({ alg: "none", kid: "key-1" })}.${part(claims)}.`,
    "HMAC with the public key": await new SignJWT(claims).setProtectedHeader({ alg: "HS256", kid: "key-1" }).sign(secret),
    "another's key": await sign({}, { key: stranger }),
    "an unknown key id": await sign({}, { header: { kid: "key-2" } }),
    "its own key": await sign({}, { key: stranger, header: { jwk: it.keys.jwk } }),
    "another's claims under a good signature": `${header}.${part(claims)}.${signature}`,
    "another application": await sign({ aud: ["another"] }),
    "another team": await sign({ iss: "https://evil.cloudflareaccess.com" }),
    "yesterday's": await sign({ iat: now() - 90_000, exp: now() - 3600 }),
    "no end": await sign({ exp: undefined }),
    "not yet": await sign({ nbf: now() + 3600 }),
    "no token at all": "Bearer",
    "a long one": "x".repeat(20_000),
  };
  for (const [what, token] of Object.entries(forged)) {
    const response = await it.get("/", { token }).catch(() => ({ status: 401 }));
    assert.ok([401, 431].includes(response.status), `${what}: ${response.status}`);
  }
  assert.deepEqual(it.machines.events, []);
});

test("a token without a person or a service is refused", async () => {
  const response = await it.get("/", { token: await it.keys.sign({ email: undefined }) });
  assert.equal(response.status, 403);
});

test("two cookies that disagree are none; one is as good as the header", async () => {
  const token = await it.keys.sign({});
  const two = await it.get("/", { headers: { Cookie: `CF_Authorization=${token}; CF_Authorization=other` } });
  assert.equal(two.status, 401);
  const one = await it.get("/x", { headers: { Cookie: `a=b; CF_Authorization=${token}` } });
  assert.equal(one.status, 200);
  assert.equal(it.machines.starts("moltbot"), 1);
});

test("the keys are asked for once, not once a request", async () => {
  const token = await it.keys.sign({});
  for (let n = 0; n < 5; n += 1) assert.equal((await it.get("/x", { token })).status, 200);
  assert.ok(it.keys.asked <= 2, String(it.keys.asked));
});

test("the token goes on to the container, which checks it again; the Worker's own headers do not", async () => {
  const token = await it.keys.sign({});
  let seen;
  it.machines.answer = async (name, request) => {
    seen = request.headers;
    return new Response(name);
  };
  await it.get("/x", { token, headers: { "cf-container-target-port": "18789", "x-moltinit-agent": "user-of-another" } });
  assert.equal(seen.get("Cf-Access-Jwt-Assertion"), token);
  assert.equal(seen.get("test-port"), "8080", "no client chooses the port");
  assert.equal(seen.get("test-machine"), "moltbot", "no client chooses the agent");
  assert.equal(seen.get("x-moltinit-agent"), null);
  assert.equal(new URL(seen.get("test-url")).hostname, "claw.example.com", "the host that the Origin is compared with");
});

test("a public path is forwarded without a token; its neighbours and its disguises are not", async () => {
  it.machines.answer = async () => new Response("hooked");
  assert.equal(await (await it.get("/telegram/hook", { method: "POST", body: "{}" })).text(), "hooked");
  assert.equal(await (await it.get("/hooks/a/b")).text(), "hooked");
  for (const path of ["/telegram/hook/deeper", "/hooks", "/hooks/", "/hooks/%2e%2e/admin", "/hooks/x%2f..%2fadmin", "/hooks//x", "/HOOKS/a", "/telegram/hook%00", "/hooks/a%00"]) {
    const response = await it.get(path);
    assert.equal(response.status, 401, path);
  }
});

test("while the keys cannot be had it is 503, nothing is woken, and afterwards all is well", async () => {
  const other = await world();
  try {
    const token = await other.keys.sign({});
    other.keys.down = true;
    assert.equal((await other.get("/x", { token })).status, 503);
    assert.deepEqual(other.machines.events, []);
    other.keys.down = false;
    assert.equal((await other.get("/x", { token })).status, 200);
    other.keys.down = true;
    assert.equal((await other.get("/x", { token })).status, 200, "known keys go on");
  } finally {
    await other.close();
  }
});
