// Pages work without this. It keeps them up to date: a job by its events, lists by asking again.
"use strict";
(() => {
  const main = document.querySelector("main");
  const says = document.getElementById("says");

  // renew takes what the server shows now. It leaves the page alone while somebody types or marks something in it.
  let busy = false;
  async function renew() {
    const active = document.activeElement;
    if (busy || document.hidden || String(getSelection()) || (active && main.contains(active) && active.matches("input, select, textarea"))) return false;
    busy = true;
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" }, cache: "no-store" });
      if (!answer.ok) return false;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const focus = active && active.id && main.contains(active) ? active.id : "";
      const open = [...main.querySelectorAll("details[open][id]")].map((d) => d.id);
      const fresh = page.querySelector("main");
      main.replaceChildren(...fresh.childNodes);
      for (const name of ["data-events", "data-renew"]) {
        if (fresh.hasAttribute(name)) main.setAttribute(name, fresh.getAttribute(name));
        else main.removeAttribute(name);
      }
      for (const id of open) document.getElementById(id)?.setAttribute("open", "");
      if (focus) document.getElementById(focus)?.focus({ preventScroll: true });
      document.title = page.title;
      return true;
    } catch {
      return false; // the server is away; the next time may work
    } finally {
      busy = false;
    }
  }

  const sizes = ["bytes", "KiB", "MiB", "GiB"];
  function size(n) {
    let i = 0;
    while (n >= 1024 && i < sizes.length - 1) { n /= 1024; i++; }
    return (i ? n.toFixed(1) : n) + " " + sizes[i];
  }

  // A job: every event has all that is known. A new state makes the page new, progress moves the bar.
  let state = main.dataset.state;
  function watch(address) {
    const source = new EventSource(address);
    let heard = "";
    source.addEventListener("status", async (event) => {
      const job = JSON.parse(event.data);
      const p = job.progress;
      if (job.state !== state) {
        state = job.state;
        says.textContent = main.dataset.subject + ": " + state;
        const last = ["done", "failed", "cancelled"].includes(state);
        if (last) source.close();
        if (!(await renew()) && last) setTimeout(retry, 1000);
      }
      const bar = document.getElementById("progress");
      if (!bar) return;
      const text = document.getElementById("progress-text");
      if (p.total > 0) {
        bar.max = p.total;
        bar.value = p.done;
        text.textContent = size(p.done) + " of " + size(p.total) + (p.file ? " · " + p.file : "");
        const tenth = state + Math.floor((10 * p.done) / p.total);
        if (tenth !== heard) { heard = tenth; says.textContent = state + ": " + Math.round((100 * p.done) / p.total) + " %"; }
      } else {
        bar.removeAttribute("value");
        text.textContent = p.file || "";
      }
    });
  }
  // The last state is always shown in the end, whatever was in the way.
  async function retry() {
    if (!(await renew())) setTimeout(retry, 2000);
  }
  if (main.dataset.events) watch(main.dataset.events);

  // Lists.
  async function again() {
    const wait = Number(main.dataset.renew);
    if (!wait) return;
    await new Promise((done) => setTimeout(done, wait * 1000));
    await renew();
    again();
  }
  again();

  // Copying a hash.
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button[data-copy]");
    if (!button) return;
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
      says.textContent = "copied";
      button.textContent = "copied";
    } catch {
      says.textContent = "the browser does not let pages copy";
    }
  });
  for (const button of document.querySelectorAll("button[data-copy]")) button.hidden = !navigator.clipboard;

  // Uploads may take long: say so, and do not send them twice.
  document.addEventListener("submit", (event) => {
    const button = event.target.querySelector("button[data-busy]");
    if (!button) return;
    button.textContent = button.dataset.busy;
    setTimeout(() => { button.disabled = true; }, 0);
  });
})();
