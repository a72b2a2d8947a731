import assert from "node:assert/strict";
import { test } from "node:test";
import { findings, plainJson } from "../deploy-check.mjs";

const CONFIG = { containers: [{ instance_type: "standard-1", max_instances: 1 }] };
const WHOLE = ["CF_ACCESS_TEAM_DOMAIN", "CF_ACCESS_AUD", "CF_ACCOUNT_ID", "R2_ACCESS_KEY_ID", "R2_SECRET_ACCESS_KEY", "ANTHROPIC_API_KEY"];
const look = (names, vars = {}, config = CONFIG) => findings(new Set(names), new Map(Object.entries(vars)), config);

test("a whole set-up has no findings", () => {
  assert.deepEqual(look(WHOLE), []);
});

test("every secret that is missing is named, with the command that sets it", () => {
  for (const name of WHOLE) {
    const [finding] = look(WHOLE.filter((other) => other !== name));
    assert.ok(`${finding.message} ${finding.fix}`.includes(name), name);
  }
});

test("temporary keys need no secret key, half a gateway and half a Slack are errors", () => {
  assert.deepEqual(look([...WHOLE.filter((name) => name !== "R2_SECRET_ACCESS_KEY"), "CF_R2_API_TOKEN"]), []);
  assert.equal(look([...WHOLE.filter((name) => name !== "ANTHROPIC_API_KEY"), "AI_GATEWAY_API_KEY"])[0].level, "error");
  assert.equal(look([...WHOLE, "SLACK_BOT_TOKEN"])[0].level, "error");
});

test("a machine that is too small, and one machine for several users, are found", () => {
  assert.match(look(WHOLE, {}, { containers: [{ instance_type: "basic" }] })[0].message, /memory/);
  assert.match(look(WHOLE, { AGENTS: "per-user" })[0].message, /max_instances/);
  assert.match(look(WHOLE, { SANDBOX_SLEEP_AFTER: "a while" })[0].message, /SANDBOX_SLEEP_AFTER/);
});

test("comments go, strings that look like comments stay", () => {
  const text = '{ // one\n "a": "https://x, }", /* two */ "b": [1, 2,], }';
  assert.deepEqual(JSON.parse(plainJson(text)), { a: "https://x, }", b: [1, 2] });
});
