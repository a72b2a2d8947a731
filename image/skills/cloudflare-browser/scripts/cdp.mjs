// A small client for the Chrome DevTools Protocol, on nothing but what Node 18 and later bring along.

import { Socket } from "./socket.mjs";

export class Browser {
  #socket;
  #next = 1;
  #waiting = new Map();
  #listeners = new Set();

  /** Connect to the broker's browser; throws with the broker's own words where it refuses. */
  static async connect(environment = process.env) {
    const { MOLTINIT_BROWSER: url, MOLTINIT_BROKER_TOKEN: token } = environment;
    if (!url || !token) throw new Error("MOLTINIT_BROWSER and MOLTINIT_BROKER_TOKEN are not set: there is no browser here");
    const answer = await fetch(`${url}/json/version`, { headers: { Authorization: `Bearer ${token}` } });
    if (!answer.ok) throw new Error(`the broker answered ${answer.status}: ${await answer.text()}`);
    const { webSocketDebuggerUrl } = await answer.json();
    const browser = new Browser();
    await browser.#open(`${webSocketDebuggerUrl}?token=${token}`);
    return browser;
  }

  async #open(url) {
    const gone = () => {
      for (const { fail } of this.#waiting.values()) fail(new Error("the browser is gone"));
      this.#waiting.clear();
    };
    this.#socket = await Socket.open(url, { hear: (text) => this.#hear(JSON.parse(text)), gone });
  }

  #hear(message) {
    if (message.id === undefined) {
      for (const listener of this.#listeners) listener(message);
      return;
    }
    const waiting = this.#waiting.get(message.id);
    this.#waiting.delete(message.id);
    if (message.error) waiting?.fail(new Error(`${waiting.method}: ${message.error.message}`));
    else waiting?.done(message.result);
  }

  /** One command; `session` is a page's. */
  send(method, params = {}, session = undefined) {
    return new Promise((done, fail) => {
      const id = this.#next++;
      this.#waiting.set(id, { method, done, fail });
      this.#socket.send(JSON.stringify({ id, method, params, sessionId: session }));
    });
  }

  /** Resolves with the first event of that name in that session, or with undefined after so many milliseconds. */
  once(method, session, milliseconds) {
    return new Promise((resolve) => {
      const end = (value) => {
        clearTimeout(timer);
        this.#listeners.delete(listener);
        resolve(value);
      };
      const listener = (message) => {
        if (message.method === method && message.sessionId === session) end(message.params);
      };
      const timer = setTimeout(end, milliseconds);
      this.#listeners.add(listener);
    });
  }

  /** A new tab with a window of that size. */
  async page({ width, height, scale = 1 }) {
    const { targetId } = await this.send("Target.createTarget", { url: "about:blank" });
    const { sessionId } = await this.send("Target.attachToTarget", { targetId, flatten: true });
    const page = new Page(this, targetId, sessionId);
    await page.send("Page.enable");
    await page.send("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: scale, mobile: false });
    await page.send("Emulation.setScrollbarsHidden", { hidden: true });
    return page;
  }

  close() {
    this.#socket.close();
  }
}

class Page {
  constructor(browser, target, session) {
    this.browser = browser;
    this.target = target;
    this.session = session;
  }

  send(method, params) {
    return this.browser.send(method, params, this.session);
  }

  /** Go there, and wait until it has loaded (half a minute at most), and a little longer. */
  async open(url, wait) {
    const loaded = this.browser.once("Page.loadEventFired", this.session, 30_000);
    const { errorText } = await this.send("Page.navigate", { url });
    if (errorText) throw new Error(`${url}: ${errorText}`);
    await loaded;
    await sleep(wait);
  }

  async evaluate(expression) {
    const { result } = await this.send("Runtime.evaluate", { expression, returnByValue: true });
    return result.value;
  }

  /** A picture as bytes. */
  async picture(options) {
    const { data } = await this.send("Page.captureScreenshot", options);
    return Buffer.from(data, "base64");
  }

  close() {
    return this.browser.send("Target.closeTarget", { targetId: this.target });
  }
}

export const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Plain words, and `--name value` or `--name` options with their defaults; throws for what is neither. */
export function readArguments(given, defaults) {
  const words = [];
  const options = { ...defaults };
  for (let at = 0; at < given.length; at++) {
    if (!given[at].startsWith("--")) {
      words.push(given[at]);
      continue;
    }
    const name = given[at].slice(2);
    if (!(name in defaults)) throw new Error(`there is no option --${name}; there are: --${Object.keys(defaults).join(" --")}`);
    if (typeof defaults[name] === "boolean") options[name] = true;
    else {
      options[name] = Number(given[++at]);
      if (!(options[name] >= 0)) throw new Error(`--${name} wants a number`);
    }
  }
  return { words, options };
}

/** Refuse what is no web address, before a browser is begun for it. */
export function webAddress(text) {
  const url = new URL(text.includes("://") ? text : `https://${text}`);
  if (!["http:", "https:"].includes(url.protocol)) throw new Error(`${text}: only http and https pages can be opened`);
  return url.href;
}

/** Run, and say in one line what went wrong. */
export async function main(work) {
  try {
    await work(process.argv.slice(2));
  } catch (error) {
    console.error(error.message);
    process.exitCode = 1;
  }
}
