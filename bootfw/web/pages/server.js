// The server: its sockets, their states, and what is ordered for next boots.

import { el, failure, show, table } from "./dom.js";
import { bytes, capital, count, duration, machineLink, timeElement, verdict } from "./format.js";
import { post, read, REFRESH } from "./remote.js";

const COLUMNS = [{ name: "Service" }, { name: "Address" }, { name: "State", class: "tight" }, { name: "Reason", class: "span" }, { name: "Since", class: "tight" }];
const NODES = [{ name: "Node" }, { name: "State", class: "tight" }, { name: "Role", class: "tight" }, { name: "Transfers", class: "number" }, { name: "Heard", class: "tight" }, { name: "Version" }, { name: "Addresses" }, { name: "Serves", class: "span" }];
const IMAGES = [{ name: "Image" }, { name: "To", class: "span" }, { name: "Receivers", class: "number" }, { name: "Complete", class: "number" }, { name: "Sent", class: "number" }, { name: "Loss", class: "number" }, { name: "Rate", class: "number" }];
const UPLOADS = [{ name: "Image" }, { name: "From", class: "span" }, { name: "State", class: "tight" }, { name: "Received", class: "number" }];
const ORDERS = [{ name: "Machine" }, { name: "File", class: "span" }, { name: "Ordered", class: "tight" }, { name: "Actions", class: "number" }];
const SERVICES = {
  dhcp: "DHCP", "boot-server": "PXE boot server", dhcp6: "DHCPv6", "boot-server6": "DHCPv6 boot server",
  tftp: "TFTP", http: "HTTP", https: "HTTPS", web: "These pages", metrics: "Metrics",
  multicast: "Multicast", "multicast-master": "Multicast master server",
};
const SIGNS = { bound: "booted", failed: "failed", "held by another": "failed", here: "booted", gone: "failed", "not ready": "failed" };

export function serverView(context) {
  const heading = el("h1", { tabindex: -1 }, "Server");
  const ready = el("div");
  const facts = el("dl", { class: "facts" });
  const list = table("Sockets that are wanted, and their states", COLUMNS);
  const panel = el("div", { class: "panel scroll" });
  const nodes = table("Nodes that share the store", NODES);
  const cluster = el("div");
  const images = table("Images that are sent to many machines", IMAGES);
  const sending = el("div");
  const uploads = table("Images that are uploaded", UPLOADS);
  const receiving = el("div");
  const orders = table("Files that machines boot once", ORDERS);
  const ordered = el("div");
  const problem = el("p", { class: "muted", role: "status" });

  function state(name) {
    const sign = verdict(SIGNS[name] ?? "in progress");
    sign.lastChild.replaceWith(capital(name));
    return sign;
  }

  function status(value) {
    show(facts,
      ...[["Version", value.version], ["Process", value.pid], ["Up for", duration(value.now - value.since)],
        ["Transfers running", value.transfers.running.toLocaleString()], ["Transfers ended", value.transfers.ended.toLocaleString()]]
        .map(([name, text]) => el("div", {}, el("dt", {}, name), el("dd", {}, text))));
    show(ready, value.ready ? el("p", {}, "Ready: every wanted socket is bound.")
      : el("div", { class: "problem" }, el("strong", {}, "Not ready"), el("ul", {}, value.waiting.map((each) =>
        el("li", {}, each.service ? `${SERVICES[each.service] ?? each.service}${each.address ? ` on ${each.address}` : ""}: ` : "", each.reason)))));
    list.rows(value.sockets.map((socket, index) => [
      `${socket.service} ${socket.address} ${socket.port} ${socket.device} ${index}`,
      () => [
        SERVICES[socket.service] ?? socket.service,
        [el("span", { class: "mono" }, socket.address.includes(":") ? `[${socket.address}]:${socket.port}` : `${socket.address}:${socket.port}`),
          socket.device ? el("span", { class: "sub" }, ` on ${socket.device}`) : null],
        state(socket.state),
        socket.reason,
        socket.since ? timeElement(socket.since) : "",
      ],
      JSON.stringify(socket),
    ]));
    showNodes(value.cluster);
    showImages(value.images);
    showUploads(value.uploads);
    show(panel, value.sockets.length ? list.node : el("div", { class: "empty" }, el("strong", {}, "No socket is wanted"), "The configuration turns every service off."));
  }

  function showImages(values) {
    images.rows(values.map((each) => [`${each.image} ${each.method} ${each.address} ${each.port}`, () => [
      el("span", { class: "file" }, each.image),
      [each.method, " ", el("span", { class: "mono" }, `${each.address}:${each.port}`)],
      each.receivers.toLocaleString(),
      each.completed.toLocaleString(),
      `${bytes(each.sent)} of ${bytes(each.size)}`,
      `${(100 * each.loss).toFixed(1)} %`,
      each.rate ? `${bytes(each.rate)}/s` : "",
    ], JSON.stringify(each)]));
    show(sending, values.length ? [el("h2", {}, "Images for many machines"), el("div", { class: "panel scroll" }, images.node)] : []);
  }

  function showUploads(values) {
    uploads.rows(values.map((each) => [`${each.image} ${each.client}`, () => [
      el("span", { class: "file" }, each.image),
      el("span", { class: "mono" }, each.client),
      capital(each.state),
      each.size ? `${bytes(each.received)} of ${bytes(each.size)}` : bytes(each.received),
    ], JSON.stringify(each)]));
    show(receiving, values.length ? [el("h2", {}, "Uploads"), el("div", { class: "panel scroll" }, uploads.node)] : []);
  }

  function showNodes(value) {
    if (!value) return;
    nodes.rows(value.nodes.map((node, index) => {
      const here = node.state === "here";
      return [`${node.node}`, () => [
        node.name,
        state(here && node.draining ? "draining" : here && node.ready === false ? "not ready" : node.state),
        here && node.leadership ? capital(node.leadership) : "",
        here && node.transfers !== undefined ? node.transfers.toLocaleString() : "",
        index === 0 ? "this node" : `${duration(node.heard)} ago`,
        node.version ?? "",
        el("span", { class: "mono" }, (node.addresses ?? []).join(", ")),
        [...new Set((node.serves ?? []).map((each) => each.split(" ")[0]))].map((each) => SERVICES[each] ?? each).join(", "),
      ], JSON.stringify(node)];
    }));
    const late = value.behind === null || value.behind > 4;
    show(cluster, el("h2", {}, "Nodes"),
      late ? el("p", { class: "problem" }, value.behind === null ? "The store that the nodes share has not been reached yet."
        : `The store that the nodes share was last reached ${duration(value.behind)} ago.`) : null,
      el("div", { class: "panel scroll" }, nodes.node));
  }

  async function cancel(mac) {
    try {
      if (await post("cancel", { mac }, context.promptForToken)) loadOrders();
    } catch (error) {
      show(problem, `${capital(error.message)}.`);
    }
  }

  async function loadOrders() {
    if (!context.status?.has.includes("orders")) return;
    let found;
    try {
      found = await read("orders");
    } catch (error) {
      show(ordered, failure(`The orders can't be shown: ${error.message}.`));
      return;
    }
    orders.rows(found.records.map((each) => [each.mac, () => [
      el("a", { class: "mono", href: machineLink(each.mac) }, each.mac), el("span", { class: "file" }, each.file), timeElement(each.ordered),
      context.status.can.includes("cancel") ? el("button", { type: "button", class: "small", "aria-label": `Cancel the order for ${each.mac}`, onclick: () => cancel(each.mac) }, "Cancel") : "",
    ], JSON.stringify(each)]));
    show(ordered, found.records.length ? el("section", { class: "panel" },
      el("h2", { class: "padded" }, `Ordered for the next boot: ${count(found.records.length, "machine")}`), orders.node) : []);
  }

  if (context.status) status(context.status);
  loadOrders();
  const refresh = setInterval(loadOrders, REFRESH);
  return {
    title: "Server",
    node: [el("div", { class: "head" }, heading), ready, el("section", { class: "panel padded", "aria-label": "About" }, facts),
      cluster, sending, receiving, el("h2", {}, "Sockets"), panel, problem, ordered],
    heading,
    status,
    resync: loadOrders,
    close() {
      clearInterval(refresh);
    },
  };
}
