// The list of boots, live.

import { el, failure, show, table } from "./dom.js";
import { bytes, capital, count, duration, MAC, machineLink, machineName, timeElement, verdict, verdicts } from "./format.js";
import { read } from "./remote.js";
import { throughputFigure } from "./throughput.js";

const PAGE = 100;
const SEARCHED = 1000; // of the latest boots, for a part of a MAC
const QUIET = 5000; // ms between announcements to a screen reader

const COLUMNS = [
  { name: "Machine", class: "tight" },
  { name: "Client", class: "muted tight" },
  { name: "Verdict", class: "tight" },
  { name: "What happened", class: "span" },
  { name: "Began", class: "tight" },
  { name: "Took", class: "number" },
  { name: "Loaded", class: "number" },
];

function description(boot) {
  if (boot.cause) return el("span", {}, `${capital(boot.cause.sentence)}.`);
  const last = boot.files.at(-1);
  if (last === undefined) return "";
  const more = boot.files.length - 1;
  return [el("span", { class: "file" }, last), more ? el("span", { class: "muted" }, ` and ${count(more, "more file")}`) : null];
}

function cells(boot) {
  const name = machineName(boot);
  return [
    name !== "unknown" ? el("a", { class: "mono", href: machineLink(name) }, name) : el("span", { class: "mono" }, name),
    [boot.persona, boot.architecture].filter(Boolean).join(", "),
    verdict(boot.verdict),
    description(boot),
    timeElement(boot.began),
    duration(boot.seconds),
    boot.bytes ? bytes(boot.bytes) : "",
  ];
}

const row = (boot) => [boot.id, () => cells(boot), JSON.stringify(boot)];

export function bootsView(context) {
  const heading = el("h1", { tabindex: -1 }, "Boots");
  const total = el("p", { class: "muted" });
  const running = el("dd");
  const rate = el("dd");
  const figure = throughputFigure();
  const search = el("input", { type: "search", id: "search", placeholder: "52:54:00:12:34:56", autocomplete: "off", spellcheck: "false" });
  const chosen = el("select", { id: "verdict" }, el("option", { value: "" }, "All"),
    verdicts.map((name) => el("option", { value: name }, capital(name))));
  const pause = el("button", { type: "button", "aria-pressed": "false", class: "push" }, "Pause");
  const list = table("Boots, the newest first", COLUMNS, { class: "boots" });
  const panel = el("div", { class: "panel scroll" });
  const newer = el("button", { type: "button", class: "small" }, "Newer");
  const older = el("button", { type: "button", class: "small" }, "Older");
  const position = el("p", { class: "muted" });
  const pager = el("nav", { class: "pager", "aria-label": "Pages of boots" }, newer, older, position);

  let boots = []; // of the page that is shown, the newest first
  let more = false;
  let pageStarts = []; // where each page began, to go back
  let paused = false;
  let changes = new Map(); // id -> boot: changes that are not shown yet
  let unseen = 0; // boots that began while another page is shown
  let frame = 0;
  let request = 0;

  const filter = () => ({ mac: search.value.trim().toLowerCase().replaceAll("-", ":"), verdict: chosen.value });
  const filtered = () => Boolean(filter().mac || filter().verdict);

  function matches(boot) {
    const { mac, verdict: wanted } = filter();
    const text = [boot.mac, boot.uuid, ...boot.addresses].join(" ");
    return (!mac || text.includes(mac)) && (!wanted || boot.verdict === wanted);
  }

  function render(fresh = false) {
    const nothing = filtered()
      ? [el("strong", {}, "No boot matches"), `Among the latest ${SEARCHED.toLocaleString()}, for a part of a MAC. Another machine, or another verdict?`]
      : [el("strong", {}, "No machine has booted yet"), "Switch one on: it appears here as soon as its first packet arrives."];
    if (boots.length) {
      list.rows(boots.map(row), fresh);
      if (panel.firstChild !== list.node) show(panel, list.node, pager);
    } else {
      list.rows([]);
      show(panel, el("div", { class: "empty" }, nothing));
    }
    newer.disabled = !pageStarts.length;
    older.disabled = !more;
    pager.hidden = !pageStarts.length && !more;
    show(position, pageStarts.length ? `Page ${pageStarts.length + 1}` : "", unseen ? `; ${count(unseen, "new boot")}` : "");
  }

  async function load(fresh = false) {
    const number = ++request;
    try {
      const { mac, verdict: wanted } = filter();
      // The server finds whole MACs; a part of one is looked for here, in the latest boots.
      const part = mac && !MAC.test(mac);
      const found = await read("boots", {
        machine: part ? "" : mac, verdict: wanted, before: pageStarts.at(-1), limit: part ? SEARCHED : PAGE,
      });
      if (number !== request) return;
      boots = part ? found.records.filter(matches) : found.records;
      more = part ? boots.length > PAGE : found.more;
      boots.length = Math.min(boots.length, PAGE);
      changes.clear();
      if (!pageStarts.length) unseen = 0;
      render(fresh);
    } catch (error) {
      if (number === request) show(panel, error.status === 404
        ? el("div", { class: "empty" }, el("strong", {}, "This server keeps no boots"), "An embedder's service keeps them when it has an attempt store.")
        : failure(`The boots can't be shown: ${error.message}.`));
    }
  }

  /** Show the changes that have come: once for each frame, however many they are. */
  function apply() {
    frame = 0;
    if (paused) return;
    const changed = changes;
    changes = new Map();
    const known = new Map(boots.map((boot) => [boot.id, boot]));
    let began = 0;
    for (const [id, boot] of changed) {
      if (known.has(id)) {
        if (matches(boot)) known.set(id, boot);
        else known.delete(id);
      } else if (!pageStarts.length && matches(boot)) {
        known.set(id, boot);
        began += 1;
      } else if (pageStarts.length && !boot.ended) unseen += 1;
    }
    boots = [...known.values()].sort((one, other) => other.began - one.began);
    if (boots.length > PAGE && !pageStarts.length) {
      boots.length = PAGE;
      more = true;
    }
    render(began < PAGE / 2);
  }

  // News for screen readers: one sentence for all boots of QUIET ms.
  let news = { began: 0, failed: [] };
  let announcementTimer = 0;
  const seen = new Map(); // id -> verdict, of the latest boots

  function announce(boot) {
    const earlier = seen.get(boot.id);
    if (earlier === undefined) news.began += 1;
    if (boot.verdict === "failed" && earlier !== "failed") news.failed.push(boot);
    seen.set(boot.id, boot.verdict);
    if (seen.size > 2000) seen.delete(seen.keys().next().value);
    if (!announcementTimer && !paused) announcementTimer = setTimeout(announceNews, QUIET);
  }

  function announceNews() {
    announcementTimer = 0;
    const { began, failed } = news;
    news = { began: 0, failed: [] };
    const parts = [];
    if (began) parts.push(`${count(began, "new boot")}`);
    if (failed.length === 1) parts.push(`${machineName(failed[0])} failed: ${failed[0].cause?.sentence ?? "no cause known"}`);
    else if (failed.length) parts.push(`${failed.length} boots failed`);
    if (parts.length) context.announce(`${parts.join("; ")}.`);
  }

  function refilter() {
    pageStarts = [];
    load();
  }

  let typing = 0;
  search.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(refilter, 250);
  });
  chosen.addEventListener("change", refilter);
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    show(pause, paused ? "Resume" : "Pause");
    if (!paused) load();
  });
  older.addEventListener("click", () => {
    pageStarts.push(boots.at(-1).began);
    load().then(() => heading.focus());
  });
  newer.addEventListener("click", () => {
    pageStarts.pop();
    load().then(() => heading.focus());
  });

  function status(value) {
    show(running, value.transfers.running.toLocaleString());
    show(total, `${count(value.transfers.ended, "transfer")} since the start`);
  }

  function throughput(value) {
    figure.update(value);
    show(rate, `${bytes(value.bytes.at(-1))}/s`);
  }

  const node = [
    el("div", { class: "head" }, heading, total),
    el("section", { class: "panel padded figures", "aria-label": "Transfers" },
      el("dl", {}, el("div", {}, el("dt", {}, "Transfers running"), running), el("div", {}, el("dt", {}, "Sent in the last second"), rate)),
      figure.node),
    el("form", { class: "controls", role: "search", onsubmit: (event) => event.preventDefault() },
      el("label", { class: "wide", for: "search" }, "MAC of a machine, or a part of it", search),
      el("label", { for: "verdict" }, "Verdict", chosen),
      pause),
    panel,
  ];
  if (context.status) status(context.status);
  if (context.throughput) throughput(context.throughput);
  load();
  return {
    title: "Boots",
    node,
    heading,
    status,
    throughput,
    boot(boot) {
      announce(boot);
      changes.set(boot.id, boot);
      frame ||= requestAnimationFrame(apply);
    },
    resync: () => load(),
    close() {
      clearTimeout(typing);
      clearTimeout(announcementTimer);
      cancelAnimationFrame(frame);
      request += 1;
    },
  };
}
