// The leases of the address server.

import { el, failure, show, table } from "./dom.js";
import { capital, count, machineLink, timeElement } from "./format.js";
import { post, read, REFRESH } from "./remote.js";

const COLUMNS = [
  { name: "Address" }, { name: "Machine" }, { name: "State", class: "tight" }, { name: "Host name" },
  { name: "Granted", class: "tight" }, { name: "Expires", class: "tight" }, { name: "Actions", class: "number" },
];
const STATES = ["active", "expired", "released", "declined"];
const LIMIT = 200;

const parts = (address) => (address.includes(":") ? [1e9, ...address.split(":").map((part) => parseInt(part || "0", 16))] : address.split(".").map(Number));

function byAddress(one, other) {
  const [left, right] = [parts(one.address), parts(other.address)];
  for (let index = 0; index < left.length; index += 1) {
    if (left[index] !== right[index]) return left[index] - (right[index] ?? -1);
  }
  return 0;
}

export function leasesView(context) {
  const heading = el("h1", { tabindex: -1 }, "Leases");
  const amount = el("p");
  const search = el("input", { type: "search", id: "search", placeholder: "10.77.0.100", autocomplete: "off", spellcheck: "false" });
  const state = el("select", { id: "state" }, el("option", { value: "" }, "All"), STATES.map((each) => el("option", { value: each }, capital(each))));
  const message = el("p", { class: "muted", role: "status" });
  const panel = el("div", { class: "panel scroll" });
  const list = table("Leases, by address", COLUMNS);
  let request = 0;

  async function release(lease) {
    try {
      if (await post("release", { address: lease.address }, context.promptForToken)) {
        show(message, `${lease.address} was released.`);
        load();
      }
    } catch (error) {
      show(message, `${capital(error.message)}.`);
    }
  }

  const cells = (lease) => [
    el("span", { class: "mono" }, lease.address),
    lease.mac ? el("a", { class: "mono", href: machineLink(lease.mac) }, lease.mac) : el("span", { class: "mono" }, lease.uuid || lease.client_id),
    [capital(lease.state), lease.kind ? el("span", { class: "sub" }, ` ${lease.kind}`) : null],
    lease.hostname,
    timeElement(lease.granted),
    lease.expires === null ? "never" : timeElement(lease.expires),
    context.status?.can.includes("release") && (lease.state === "active" || lease.state === "declined")
      ? el("button", { type: "button", class: "small", "aria-label": `Release ${lease.address}`, onclick: () => release(lease) }, "Release") : "",
  ];

  async function load() {
    const number = ++request;
    try {
      const found = await read("leases", { who: search.value.trim(), state: state.value, limit: LIMIT });
      if (number !== request) return;
      const records = found.records.sort(byAddress);
      list.rows(records.map((lease) => [lease.address, () => cells(lease), JSON.stringify(lease)]));
      show(amount, found.more ? `${count(records.length, "lease")} of more: search to narrow them down` : count(records.length, "lease"));
      show(panel, records.length ? list.node : el("div", { class: "empty" }, el("strong", {}, "No lease matches"),
        search.value || state.value ? "Another client, or another state?" : "No client has been given an address yet."));
    } catch (error) {
      if (number !== request) return;
      show(amount);
      show(panel, error.status === 404
        ? el("div", { class: "empty" }, el("strong", {}, "This server gives no addresses"), "It leaves them to another DHCP server; [dhcp] mode = \"server\" would change that.")
        : failure(`The leases can't be shown: ${error.message}.`));
    }
  }

  let typing = 0;
  search.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(load, 300);
  });
  state.addEventListener("change", load);
  load();
  const refresh = setInterval(load, REFRESH);
  return {
    title: "Leases",
    node: [
      el("div", { class: "head" }, heading, amount),
      el("form", { class: "controls", role: "search", onsubmit: (event) => event.preventDefault() },
        el("label", { class: "wide", for: "search" }, "Address, MAC, UUID or host name", search), el("label", { for: "state" }, "State", state)),
      message, panel,
    ],
    heading,
    resync: load,
    close() {
      clearInterval(refresh);
      clearTimeout(typing);
      request += 1;
    },
  };
}
