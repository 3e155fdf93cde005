// The machines: what is known of each, its latest boot, and what it boots next.

import { el, failure, show, table } from "./dom.js";
import { count, machineLink, timeElement, verdict } from "./format.js";
import { read, REFRESH } from "./remote.js";

const COLUMNS = [
  { name: "Machine" }, { name: "Name" }, { name: "Tags" }, { name: "Image" }, { name: "Address" }, { name: "Client" },
  { name: "Boots", class: "number" }, { name: "Last boot", class: "tight" }, { name: "Verdict", class: "tight" },
  { name: "Next boot" },
];
const LIMIT = 500;

export function machinesView() {
  const heading = el("h1", { tabindex: -1 }, "Machines");
  const amount = el("p");
  const search = el("input", { type: "search", id: "search", placeholder: "web1", autocomplete: "off", spellcheck: "false" });
  const panel = el("div", { class: "panel scroll" });
  const list = table("Machines, the one that booted last first", COLUMNS);
  let request = 0;
  let records = [];
  let more = false;

  const cells = (machine) => [
    el("a", { class: "mono", href: machineLink(machine.machine) }, machine.machine),
    machine.name,
    machine.tags.join(", "),
    machine.image,
    el("span", { class: "mono" }, machine.addresses.at(-1) ?? ""),
    [machine.persona, machine.architecture].filter(Boolean).join(", "),
    machine.failed ? `${machine.boots}, ${machine.failed} failed` : String(machine.boots),
    machine.last ? timeElement(machine.last.began) : "never",
    machine.last ? verdict(machine.last.verdict) : "",
    machine.next ? el("span", { class: "file" }, machine.next) : "",
  ];

  function render() {
    const text = search.value.trim().toLowerCase();
    const fits = (machine) => [machine.machine, machine.name, machine.image, machine.uuid, ...machine.tags, ...machine.addresses]
      .some((each) => each.toLowerCase().includes(text));
    const found = records.filter(fits);
    list.rows(found.map((machine) => [machine.machine, () => cells(machine), JSON.stringify(machine)]));
    show(amount, more ? `the latest ${count(found.length, "machine")}` : count(found.length, "machine"));
    show(panel, found.length ? list.node : el("div", { class: "empty" },
      el("strong", {}, text ? "No machine matches" : "No machine has booted yet"),
      text ? "Another name, tag, address or image?" : "It is listed here from its first packet on."));
  }

  async function load() {
    const number = ++request;
    try {
      const found = await read("machines", { limit: LIMIT });
      if (number !== request) return;
      [records, more] = [found.records, found.more];
      render();
    } catch (error) {
      if (number !== request) return;
      show(amount);
      show(panel, failure(`The machines can't be shown: ${error.message}.`));
    }
  }

  search.addEventListener("input", render);
  load();
  const refresh = setInterval(load, REFRESH);
  return {
    title: "Machines",
    node: [
      el("div", { class: "head" }, heading, amount),
      el("form", { class: "controls", role: "search", onsubmit: (event) => event.preventDefault() },
        el("label", { class: "wide", for: "search" }, "Name, tag, address, MAC or image", search)),
      panel,
    ],
    heading,
    resync: load,
    close() {
      clearInterval(refresh);
      request += 1;
    },
  };
}
