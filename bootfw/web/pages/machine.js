// One machine: its boots, the timeline of one of them, what each resolver decided.

import { el, fact, failure, show, table } from "./dom.js";
import { bytes, capital, count, duration, MAC, machineLink, offset, timeElement, verdict } from "./format.js";
import { entryPanel } from "./entry.js";
import { post, read } from "./remote.js";
import { decisionText, describe } from "./stages.js";
import { causeOf, timelineFigure } from "./timeline.js";

const SHOWN = 30; // boots
const RELOAD_PAUSE = 1000; // ms between loads while it boots
const LONGEST = 3000; // ms that one form waits for the other

const STAGES = [
  { name: "At", class: "number" },
  { name: "Stage" },
  { name: "What happened", class: "span" },
];

const DECISIONS = [{ name: "Resolver" }, { name: "Decision", class: "span" }, { name: "At", class: "number" }];

function stagesOf(boot) {
  const list = table("The stages of this boot, in order", STAGES, { header: 1, class: "stages" });
  list.rows(boot.stages.map((stage, index) => {
    const { title, text, look } = describe(stage);
    const again = stage.count > 1 ? `${count(stage.count, "time")} in ${duration(stage.until - stage.at)}` : "";
    return [index, () => [
      offset(stage.at - boot.began),
      el("span", { class: look === "file" || look === "running" ? "file" : "" }, title),
      [text, again ? el("span", { class: "sub" }, text ? ` (sent ${again})` : `Sent ${again}`) : null],
    ]];
  }));
  return list.node;
}

function decisionsOf(boot) {
  const found = boot.stages.filter((stage) => stage.kind === "resolver");
  if (!found.length) return null;
  const list = table("What each resolver decided", DECISIONS);
  list.rows(found.map((stage, index) => [index, () => [
    stage.data.resolver,
    capital(decisionText(stage.data)) + (stage.count > 1 ? `; ${count(stage.count, "time")}` : ""),
    offset(stage.at - boot.began),
  ]]));
  return el("section", { class: "panel" }, el("h2", { class: "padded" }, "What each resolver decided"), list.node);
}

export function machineView(context, name, wantedId) {
  const heading = el("h1", { tabindex: -1, class: "mono" }, name);
  const about = el("p");
  const attempts = el("nav", { class: "attempts", "aria-label": "Boots of this machine" });
  const detail = el("div", { class: "stack" });
  const next = el("div");
  const entry = entryPanel(context, name);
  const forms = el("div", { class: "stack", hidden: true }, next, entry.node);
  let shown = "";
  let pauseTimer = 0; // a timer: no load before it has fired
  let changed = false; // meanwhile
  let closed = false;
  let ordered = null;

  function render(records) {
    if (!records.length) {
      show(about);
      show(attempts);
      show(detail, el("div", { class: "panel empty" }, el("strong", {}, "No boot of this machine is known"), "It may be older than what is kept."));
      return;
    }
    const boot = records.find((each) => each.id === wantedId) ?? records[0];
    show(about, [boot.persona, boot.architecture, ...boot.addresses].filter(Boolean).join(", "));
    show(attempts, records.length < 2 ? [] : records.map((each) => el("a", {
      href: `${machineLink(name)}/${encodeURIComponent(each.id)}`, "aria-current": each === boot ? "true" : null,
    }, timeElement(each.began), verdict(each.verdict))));
    const signature = JSON.stringify(boot);
    if (signature === shown) return;
    shown = signature;
    const retries = Object.entries(boot.retries).map(([kind, times]) => `${times} × ${kind}`).join(", ");
    show(detail,
      el("section", { class: "panel padded stack", "aria-label": "Verdict and timeline" },
        causeOf(boot),
        el("dl", { class: "facts" },
          fact("Began", timeElement(boot.began)), fact("Took", duration(boot.seconds)),
          fact("Loaded", boot.bytes ? `${bytes(boot.bytes)} in ${count(boot.files.length, "file")}` : "nothing"),
          fact("Retries", retries), fact("Interface", boot.interface), fact("UUID", boot.uuid)),
        boot.stages.length ? timelineFigure(boot) : null),
      el("section", { class: "panel" },
        el("h2", { class: "padded" }, "Stages"), stagesOf(boot),
        boot.omitted ? el("p", { class: "padded muted" }, `${count(boot.omitted, "stage")} in between were left out.`) : null),
      decisionsOf(boot));
  }

  async function load() {
    try {
      const found = await read(`machines/${encodeURIComponent(name)}`, { limit: SHOWN });
      if (!closed) render(found.records);
    } catch (error) {
      if (!closed) show(detail, failure(`The boots can't be shown: ${error.message}.`));
    }
  }

  async function loadNext() {
    if (!context.status?.has.includes("orders") || !MAC.test(name)) return;
    let found;
    try {
      found = await read("orders");
    } catch (error) {
      show(next, failure(`The next boot can't be shown: ${error.message}.`));
      return;
    }
    ordered = found.records.find((each) => each.mac === name) ?? null;
    if (closed) return;
    const can = context.status.can;
    const input = el("input", { id: "file", required: true, placeholder: "install.ipxe", autocomplete: "off", spellcheck: "false" });
    const problem = el("p", { class: "muted", role: "status" });
    async function send(path, body) {
      try {
        if (await post(path, body, context.promptForToken)) loadNext();
      } catch (error) {
        show(problem, `${capital(error.message)}.`);
      }
    }
    show(next, !ordered && !can.includes("order") ? [] : el("section", { class: "panel padded stack" },
      el("h2", {}, "Next boot"),
      ordered
        ? el("p", {}, "Once: ", el("span", { class: "file" }, ordered.file), ", ordered ", timeElement(ordered.ordered), ". ",
          can.includes("cancel") ? el("button", { type: "button", class: "small", onclick: () => send("cancel", { mac: name }) }, "Cancel") : null)
        : el("form", { class: "controls", onsubmit: (event) => {
          event.preventDefault();
          send("order", { mac: name, file: input.value.trim() });
        } }, el("label", { class: "wide", for: "file" }, "File to boot once", input), el("button", { class: "main" }, "Order")),
      problem));
  }

  /** Load now, or when the last load was a while ago. */
  function loadSoon() {
    changed = true;
    if (pauseTimer) return;
    changed = false;
    load();
    if (ordered) loadNext(); // this boot may be the one that takes it
    pauseTimer = setTimeout(() => {
      pauseTimer = 0;
      if (changed) loadSoon();
    }, RELOAD_PAUSE);
  }

  // One form must not move the other from under the pointer.
  const loaded = Promise.allSettled([load(), entry.load(), loadNext()]);
  Promise.race([loaded, new Promise((resolve) => setTimeout(resolve, LONGEST))]).then(() => { forms.hidden = false; });
  return {
    title: name,
    node: [el("div", { class: "head" }, heading, about), attempts, detail, forms],
    heading,
    boot(boot) {
      if ([boot.mac, boot.uuid, ...boot.addresses].includes(name)) loadSoon();
    },
    resync: load,
    close() {
      closed = true;
      entry.close();
      clearTimeout(pauseTimer);
    },
  };
}
