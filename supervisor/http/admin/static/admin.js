// What the page does better with a script: it keeps itself current, shows the log as it is written, counts ages,
// and says that something is under way. Without it everything can still be read and done.
"use strict";

(() => {
  const REFRESH_MS = 5000;
  const MOST_LINES = 1000;

  const main = document.querySelector("main");
  // Ages are the daemon's: this device's clock may be wrong.
  const skew = Number(main.dataset.now) * 1000 - Date.now();
  const now = () => Date.now() + skew;

  const UNITS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  function ago(ms) {
    const seconds = Math.max(0, ms / 1000);
    if (seconds < 2) return "just now";
    const [size, unit] = UNITS.find(([size]) => seconds >= size);
    return `${Math.floor(seconds / size)} ${unit} ago`;
  }

  const clock = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  const minute = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  const second = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });

  function tell(root) {
    for (const element of root.querySelectorAll("time[data-ago]")) {
      const text = ago(now() - Date.parse(element.dateTime));
      if (element.textContent !== text) element.textContent = text;
    }
    for (const element of root.querySelectorAll("time:is([data-clock], [data-minute], [data-second]):not([title])")) {
      const at = new Date(element.dateTime);
      // Days are headed by their name in UTC: where the reader's day is another one, it stands with the time.
      const format = "second" in element.dataset ? second
        : "minute" in element.dataset && at.getDate() === at.getUTCDate() ? minute : clock;
      element.title = element.dateTime;
      element.textContent = format.format(at);
    }
  }

  function nameZone() {
    const zone = document.querySelector("[data-zone]");
    const name = Intl.DateTimeFormat().resolvedOptions().timeZone;
    if (zone && name && name !== "UTC") zone.textContent = `Times are in ${name}, days in UTC.`;
  }

  // -- one request at a time, and no second click

  document.addEventListener("submit", (event) => {
    const form = event.target;
    const button = event.submitter || form.querySelector("button");
    if (event.defaultPrevented || form.method !== "post" || !button) return;
    if (form.dataset.sent) {
      event.preventDefault();
      return;
    }
    form.dataset.sent = "1";
    form.setAttribute("aria-busy", "true");
    // After this turn: a button that is disabled now would not be sent with its form.
    setTimeout(() => {
      button.disabled = true;
      if (form.dataset.busy) button.textContent = form.dataset.busy;
    });
  });
  window.addEventListener("pageshow", (event) => {
    if (event.persisted) location.reload();
  });

  if (new URLSearchParams(location.search).has("notice")) {
    history.replaceState(null, "", location.pathname + location.hash);
  }

  // -- the overview keeps itself current

  const live = () => document.querySelectorAll("[data-live]");
  const spoken = document.getElementById("spoken");
  const lost = document.querySelector("[data-lost]");
  let said = document.getElementById("headline")?.textContent;
  let refreshing = false;

  function replace(section, fresh) {
    if (section.contains(document.activeElement) || section.querySelector("form[aria-busy]")) return;
    for (const details of section.querySelectorAll("details[open][id]")) {
      const twin = fresh.querySelector(`#${CSS.escape(details.id)}`);
      if (twin) twin.open = true;
    }
    tell(fresh);
    if (section.isEqualNode(fresh)) return;
    section.replaceWith(document.importNode(fresh, true));
  }

  function lose(text) {
    if (lost.textContent !== text) lost.textContent = text;
    lost.hidden = !text;
  }

  async function refresh() {
    if (refreshing || document.hidden) return;
    refreshing = true;
    try {
      const answer = await fetch("/_admin/", { headers: { Accept: "text/html" }, signal: AbortSignal.timeout(15000) });
      if (answer.redirected || answer.status === 401 || answer.status === 403) {
        lose("You are signed out. Reload the page to sign in.");
        return;
      }
      if (!answer.ok) throw new Error(String(answer.status));
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const section of live()) {
        const twin = fresh.getElementById(section.id);
        if (twin) replace(section, twin);
      }
      document.title = fresh.title;
      const headline = fresh.getElementById("headline")?.textContent;
      if (headline && headline !== said) spoken.textContent = said = headline;
      lose("");
    } catch {
      lose("The daemon does not answer this page. It is tried again; what you see may be old.");
    } finally {
      refreshing = false;
    }
  }

  // -- the log, as it is written

  const box = document.querySelector(".log");
  if (box) follow(box);

  function follow(box) {
    const list = box.querySelector("ol");
    const empty = box.querySelector("[data-empty]");
    const form = document.querySelector("[data-filter]");
    const input = form.querySelector("input");
    const pause = form.querySelector("[data-pause]");
    const state = form.querySelector("[data-stream]");
    let after = Number(box.dataset.after);
    let life = "";
    let stream = null;
    let paused = false;

    const matches = (item) => item.querySelector("bdi").textContent.toLowerCase().includes(input.value.toLowerCase());

    function filter() {
      let shown = 0;
      for (const item of list.children) {
        item.hidden = !matches(item);
        if (!item.hidden) shown += 1;
      }
      empty.hidden = shown > 0;
      empty.textContent = input.value ? "No line holds this text." : "Nothing yet.";
      box.scrollTop = box.scrollHeight;
    }

    // As the page's own text: nothing is hidden, and nothing turns the line around.
    const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]|[\u{e0000}-\u{e007f}]/gu;
    const visible = (text) => text.replace(HIDDEN, (c) => `\\u${c.codePointAt(0).toString(16).padStart(4, "0")}`);

    function put(line, text) {
      const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
      const item = document.createElement("li");
      const time = document.createElement("time");
      const words = document.createElement("bdi");
      time.dateTime = new Date(line.at * 1000).toISOString();
      time.dataset.second = "";
      time.title = time.dateTime;
      time.textContent = second.format(new Date(line.at * 1000));
      words.textContent = visible(text);
      item.append(time, " ", words);
      if (text.startsWith("[moltinit]")) item.className = "ours";
      item.hidden = !matches(item);
      list.append(item);
      while (list.children.length > MOST_LINES) list.firstElementChild.remove();
      if (!item.hidden) empty.hidden = true;
      if (atEnd) box.scrollTop = box.scrollHeight;
    }

    // An event's id is `life-number`: the numbers begin anew with each life of the daemon.
    function hear(event) {
      const line = JSON.parse(event.data);
      const current = event.lastEventId.split("-")[0];
      if (life && current !== life) {
        after = 0;
        put(line, "[moltinit] another life of the daemon begins here");
      }
      life = current;
      if (line.number <= after) return;
      after = line.number;
      put(line, line.text);
    }

    function open(address) {
      if (stream || paused || document.hidden) return;
      stream = new EventSource(address);
      stream.onopen = () => { state.textContent = "Live"; };
      stream.onerror = () => {
        state.textContent = "Not live; trying again";
        close();
        // Not left to the browser: a refused stream it gives up, and in a new life it would wait for old numbers.
        setTimeout(resume, REFRESH_MS);
      };
      stream.addEventListener("line", hear);
      stream.addEventListener("dropped", (event) => {
        const at = now() / 1000;
        put({ at }, `[moltinit] ${JSON.parse(event.data).lines} lines came too fast and are missing here`);
      });
    }

    const STREAM = "/api/admin/logs/stream";
    const resume = () => open(life ? STREAM : `${STREAM}?after=${after}`);

    function close() {
      stream?.close();
      stream = null;
    }

    pause.hidden = false;
    form.querySelector("[data-plain]").hidden = true;
    pause.addEventListener("click", () => {
      paused = !paused;
      pause.setAttribute("aria-pressed", String(paused));
      if (paused) {
        close();
        state.textContent = "Paused";
      } else {
        resume();
      }
    });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      filter();
    });
    input.addEventListener("input", filter);
    document.addEventListener("visibilitychange", () => (document.hidden ? close() : resume()));
    box.scrollTop = box.scrollHeight;
    if (input.value) filter();
    resume();
  }

  // -- time goes on

  nameZone();
  tell(document);
  setInterval(() => tell(document), 1000);
  if (live().length) {
    setInterval(refresh, REFRESH_MS);
    document.addEventListener("visibilitychange", refresh);
  }
})();
