// Pages work without this. It keeps them up to date: a job by its events, lists by asking again.
"use strict";
(() => {
  const main = document.querySelector("main");
  const says = document.getElementById("says");
  const later = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));

  // Where the keyboard is, so that it is there again in the new page.
  function place() {
    const at = document.activeElement;
    if (!at || at === main || !main.contains(at)) return null;
    const path = [];
    for (let e = at; e !== main; e = e.parentElement) path.unshift([...e.parentElement.children].indexOf(e));
    const same = (e) => e && e.tagName === at.tagName && (e.id || e.getAttribute("href")) === (at.id || at.getAttribute("href"));
    return () => {
      let e = main;
      for (const i of path) e = e?.children[i];
      if (!same(e)) e = at.id ? document.getElementById(at.id) : [...main.querySelectorAll(at.tagName)].find(same);
      (e || main).focus({ preventScroll: true });
    };
  }

  // Clocks. The server's time counts: that of this machine may be another.
  let ahead = 0;
  const now = () => Date.now() - ahead;
  function span(ms) {
    const s = Math.max(0, ms) / 1000;
    if (s < 10) return s.toFixed(1) + " s";
    if (s < 60) return Math.round(s) + " s";
    if (s < 3600) return Math.floor(s / 60) + " min " + Math.floor(s % 60) + " s";
    return Math.floor(s / 3600) + " h " + Math.floor((s % 3600) / 60) + " min";
  }
  function tick() {
    for (const e of main.querySelectorAll("[data-since]")) e.textContent = span(now() - Date.parse(e.dataset.since));
    for (const e of main.querySelectorAll("[data-until]")) {
      const left = Date.parse(e.dataset.until) - now();
      e.textContent = left > 0 ? "in " + span(Math.ceil(left / 1000) * 1000) : "now";
    }
  }
  // Times in the zone of the reader, with UTC beside.
  const here = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const two = (n) => String(n).padStart(2, "0");
  function local() {
    if (new Date().getTimezoneOffset() === 0) return;
    for (const e of main.querySelectorAll("time[datetime]")) {
      const t = new Date(e.dateTime);
      if (isNaN(t)) continue;
      const day = t.getFullYear() + "-" + two(t.getMonth() + 1) + "-" + two(t.getDate());
      const utc = t.toISOString();
      e.textContent = day + " " + two(t.getHours()) + ":" + two(t.getMinutes()) + ":" + two(t.getSeconds()) +
        " (" + (utc.slice(0, 10) === day ? "" : utc.slice(0, 10) + " ") + utc.slice(11, 19) + " UTC)";
      e.title = here;
    }
  }
  function settle() {
    ahead = Date.now() - Number(main.dataset.now);
    local();
    tick();
  }
  settle();
  setInterval(tick, 200);

  // renew takes what the server shows now. It leaves the page alone while somebody types or marks something in it.
  let busy = false;
  async function renew() {
    const typing = () => document.activeElement?.matches("main input, main select, main textarea") || String(getSelection());
    if (busy || document.hidden || typing()) return false;
    busy = true;
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" }, cache: "no-store" });
      if (!answer.ok) return false;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (typing()) return false;
      const fresh = page.querySelector("main");
      const back = place();
      const scrolled = [...main.querySelectorAll(".scroll, pre")].map((e) => e.scrollLeft);
      main.replaceChildren(...fresh.childNodes);
      for (const name of ["data-events", "data-renew", "data-state", "data-now"]) {
        if (fresh.hasAttribute(name)) main.setAttribute(name, fresh.getAttribute(name));
        else main.removeAttribute(name);
      }
      main.querySelectorAll(".scroll, pre").forEach((e, i) => { e.scrollLeft = scrolled[i] || 0; });
      settle();
      back?.();
      document.title = page.title;
      return true;
    } catch {
      return false; // the server is away; the next time may work
    } finally {
      busy = false;
    }
  }

  const units = ["bytes", "KiB", "MiB", "GiB"];
  function size(n) {
    let i = 0;
    while (n >= 1024 && i < units.length - 1) { n /= 1024; i++; }
    return (i ? n.toFixed(1) : n) + " " + units[i];
  }

  // A name that is read from the right, or has characters that turn the direction, moves nothing beside it.
  function apart(name) {
    const plain = name.replace(/[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, (c) => "[U+" + c.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0") + "]");
    return "\u2068" + plain + "\u2069";
  }

  // How far, how fast, and how long yet, by the last ten seconds of this step.
  let samples = [];
  function pace(job) {
    const p = job.progress;
    const at = performance.now();
    if (samples.length && (samples[0].state !== job.state || samples[samples.length - 1].done > p.done)) samples = [];
    samples.push({ state: job.state, at, done: p.done });
    while (samples.length > 2 && at - samples[0].at > 10000) samples.shift();
    const parts = [p.total > 0 ? size(p.done) + " of " + size(p.total) : p.done > 0 ? size(p.done) : ""];
    const took = at - samples[0].at;
    const rate = (1000 * (p.done - samples[0].done)) / took;
    if (took > 900 && rate > 0) {
      parts.push(size(Math.round(rate)) + "/s");
      if (p.total > p.done) parts.push("about " + span((1000 * (p.total - p.done)) / rate) + " left");
    }
    if (p.file) parts.push(apart(p.file));
    return parts.filter(Boolean).join(" · ");
  }

  // A job: every event has all that is known. A new state makes the page new, progress moves the bar.
  let said = "";
  async function hear(event) {
    const job = JSON.parse(event.data);
    const last = ["done", "failed", "cancelled"].includes(job.state);
    if (last) event.target.close();
    if (job.state !== main.dataset.state) {
      if (said !== job.state) says.textContent = main.dataset.subject + ": " + job.state;
      said = job.state;
      // The end is always shown, whatever was in the way.
      while (!(await renew()) && last) await later(1);
    }
    const bar = document.getElementById("progress");
    const text = document.getElementById("progress-text");
    if (!bar || !text) return;
    const p = job.progress;
    if (p.total > 0) {
      bar.max = p.total;
      bar.value = p.done;
      text.textContent = pace(job);
      const tenth = job.state + Math.floor((10 * p.done) / p.total);
      if (tenth !== said) {
        said = tenth;
        says.textContent = job.state + ": " + Math.round((100 * p.done) / p.total) + " %";
      }
    } else {
      bar.removeAttribute("value");
      text.textContent = pace(job);
    }
  }
  function watch() {
    const source = new EventSource(main.dataset.events);
    source.addEventListener("status", hear);
    source.addEventListener("error", async () => {
      if (source.readyState !== EventSource.CLOSED) return; // it tries again by itself
      await later(3);
      await renew();
      if (main.dataset.events) watch();
    });
  }
  if (main.dataset.events) watch();

  // Lists.
  (async () => {
    while (main.dataset.renew) {
      await later(Number(main.dataset.renew));
      await renew();
    }
  })();

  // Uploads may take long: say so, and do not send them twice.
  document.addEventListener("submit", (event) => {
    const button = event.target.querySelector("button[data-busy]");
    if (!button) return;
    button.textContent = button.dataset.busy;
    setTimeout(() => { button.disabled = true; }, 0);
  });
  addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
})();
