// The page: it opens the view of the address, and passes on the events of the server.

import { bootsView } from "./boots.js";
import { el, failure, show } from "./dom.js";
import { count, zone } from "./format.js";
import { leasesView } from "./leases.js";
import { machineView } from "./machine.js";
import { machinesView } from "./machines.js";
import { follow, read } from "./remote.js";
import { serverView } from "./server.js";

const main = document.getElementById("main");
const ready = document.getElementById("ready");
const news = document.getElementById("news");
const context = { status: null, throughput: null, announce, promptForToken };
let view = null;
let connected = false;

/** Have a screen reader say a text, when it has finished the one before. */
function announce(text) {
  show(news, text);
}

/** Return the token that the viewer enters, or null if it is cancelled. */
function promptForToken(problem) {
  return new Promise((resolve) => {
    const input = el("input", { type: "password", id: "token", required: true, autocomplete: "off" });
    const dialog = el("dialog", { "aria-labelledby": "token-title" },
      el("form", { method: "dialog" },
        el("h2", { id: "token-title" }, "Token"),
        el("p", {}, "Changes need the token of [web] in the configuration. It is kept until this page is closed."),
        problem ? failure(problem) : null,
        el("label", { class: "field", for: "token" }, "Token", input),
        el("div", { class: "buttons" },
          el("button", { type: "submit", value: "", formnovalidate: true }, "Cancel"),
          el("button", { type: "submit", value: "go", class: "main" }, "Continue"))));
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "go" ? input.value : null);
    });
    // Enter submits with the button that continues: the first one cancels.
    input.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && input.value) {
        event.preventDefault();
        dialog.close("go");
      }
    });
    document.body.append(dialog);
    dialog.showModal();
    input.focus();
  });
}

function showReady() {
  const status = context.status;
  const [kind, text] = !connected ? ["", "No connection"]
    : status === null ? ["", "Connecting"]
      : status.ready ? ["good", "Ready"] : ["bad", `Not ready: ${count(status.waiting.length, "socket")}`];
  ready.className = `ready ${kind}`;
  if (ready.lastChild.textContent !== text) {
    if (status !== null) announce(`Server: ${text}`);
    ready.lastChild.textContent = text;
  }
}

function setStatus(status) {
  const first = context.status === null;
  context.status = status;
  for (const name of ["machines", "leases"]) {
    document.querySelector(`[data-view="${name}"]`).parentNode.hidden = !status.has.includes(name);
  }
  show(document.getElementById("version"), `bootfw ${status.version}.`);
  showReady();
  if (first) route(false);
  else view?.status?.(status);
}

function open(path) {
  const [, name, ...rest] = path.split("/").map(decodeURIComponent);
  if (name === "machine" && rest[0]) return [machineView(context, ...rest), "boots"];
  if (name === "machines") return [machinesView(), name];
  if (name === "leases") return [leasesView(context), name];
  if (name === "server") return [serverView(context), name];
  return [bootsView(context), "boots"];
}

/** Show the view of the address; move the focus to it, unless the page has just been opened. */
function route(focus = true) {
  view?.close();
  const [opened, current] = open(location.hash.slice(1) || "/boots");
  view = opened;
  document.title = `${view.title} · bootfw`;
  for (const link of document.querySelectorAll("[data-view]")) {
    if (link.dataset.view === current) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  show(main, view.node);
  if (focus) {
    scrollTo(0, 0);
    view.heading.focus();
  }
}

show(document.getElementById("zone"), `Times are those of ${zone}.`);
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  view?.heading.focus();
});
addEventListener("hashchange", () => route());
follow({
  connection(established) {
    const back = established && !connected && context.status !== null;
    connected = established;
    showReady();
    if (back) view?.resync();
    if (established) read("status").then(setStatus, () => {});
  },
  status: setStatus,
  throughput(value) {
    context.throughput = value;
    view?.throughput?.(value);
  },
  boot: (boot) => view?.boot?.(boot),
  resync: () => view?.resync(),
});
