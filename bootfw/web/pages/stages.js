// The stages of a boot in words.

import { bytes, count, duration } from "./format.js";

const quoted = (name) => `“${name}”`;
const programText = (architecture) => (architecture.includes("-") ? `a program for ${architecture}` : architecture);
const list = (...parts) => parts.filter(Boolean).join(", ");

function offerText(data) {
  return list(
    data.address && `address ${data.address}`,
    data.file && `boot file ${quoted(data.file)}${data.server ? ` on ${data.server}` : ""}`,
    data.menu && `a menu of ${count(data.menu, "item")}`,
    data.boot_server && "the file has to be requested of port 4011",
  ) || "nothing to boot";
}

function senderText(data) {
  return list(
    data.stack === "ipxe" ? "iPXE" : data.stack === "http" ? "UEFI HTTP boot" : data.persona,
    data.architecture,
    data.interface && `on ${data.interface}`,
    data.relay && `by relay ${data.relay}`,
    data.item !== undefined && data.item !== null && `menu item ${data.item}`,
  );
}

const OUTCOMES = {
  complete: "complete",
  unconfirmed: "complete, the last ACK is missing",
  size_probe: "size probe: the client wanted to know the size only",
  stopped_by_peer: "stopped by the client",
  timed_out: "timed out: the client did not answer any more",
  failed: "failed on our side",
  cancelled: "cancelled on our side",
};

/** Outcomes that are no failure. */
const DONE = new Set(["complete", "unconfirmed", "size_probe"]);

function transferText(stage) {
  const data = stage.data;
  const took = data.seconds ?? (stage.until > stage.at ? stage.until - stage.at : null);
  return list(
    data.outcome ? OUTCOMES[data.outcome] ?? data.outcome : "running",
    data.outcome !== "size_probe" && data.bytes !== undefined && bytes(data.bytes) + (took ? ` in ${duration(took)}` : ""),
    data.blksize && `blksize ${data.blksize}`,
    data.windowsize > 1 && `windowsize ${data.windowsize}`,
    data.retransmitted > 0 && `${count(data.retransmitted, "packet")} sent again`,
    data.waited > 0.1 && `the backend took ${duration(data.waited)} to open it`,
    data.detail,
  );
}

/** What a resolver did, for the table of decisions. */
export function decisionText(data) {
  const took = data.seconds === undefined ? "" : ` in ${duration(data.seconds).replace("< ", "under ")}`;
  if (data.outcome === "unavailable") return `could not decide: ${data.reason}`;
  if (data.outcome === "too slow") return `was too slow${took}; the next one was called`;
  if (data.file) return `decided on ${quoted(data.file)}${took}`;
  if (data.menu) return `decided on a menu of ${count(data.menu, "item")}${took}`;
  return `left it to the next one${took}`;
}

// kind -> [lane, look, title, text]; lane: dhcp, tftp, http or other.
const KINDS = {
  discover: (s) => ["dhcp", "from-client", s.data.family === 6 ? "SOLICIT" : "DISCOVER", senderText(s.data)],
  offer: (s) => ["dhcp", "from-server", s.data.family === 6 ? "ADVERTISE" : "OFFER", offerText(s.data)],
  request: (s) => ["dhcp", "from-client", "REQUEST", senderText(s.data)],
  ack: (s) => ["dhcp", "from-server", s.data.family === 6 ? "REPLY" : "ACK", offerText(s.data)],
  "boot-server": (s) => ["dhcp", "from-client", "Request to port 4011", senderText(s.data)],
  "boot-server-reply": (s) => ["dhcp", "from-server", "Reply from port 4011", offerText(s.data)],
  resolver: (s) => ["other", "plain", `Resolver ${s.data.resolver}`, decisionText(s.data)],
  "no-answer": (s) => ["dhcp", "broken", "No answer", s.data.reason],
  "no-file": (s) => ["dhcp", "broken", "No boot file", s.data.reason],
  "no-address": (s) => ["dhcp", "broken", "No address", s.data.reason],
  "address-refused": (s) => ["dhcp", "broken", "NAK", `the client can't have ${s.data.address}`],
  "pool-exhausted": (s) => ["dhcp", "broken", "No address is free", s.data.network],
  "address-declined": (s) => ["dhcp", "broken", "Address declined", `another host uses ${s.data.address}`],
  "other-server": (s) => ["dhcp", "aside", "Another DHCP server", `the client accepted the offer of ${s.data.server}`],
  "other-boot-server": (s) => ["dhcp", "aside", "Another boot server", list(`${s.data.server} answers as well`, s.data.file && `boot file ${quoted(s.data.file)}`)],
  transfer: (s) => [s.data.protocol === "tftp" ? "tftp" : "http", lookOf(s), s.data.file, transferText(s)],
  upload: (s) => [s.data.protocol === "tftp" ? "tftp" : "http", lookOf(s), `Upload of ${s.data.file}`, transferText(s)],
  refused: (s) => [
    s.data.protocol === "tftp" ? "tftp" : "http", "broken", s.data.file,
    list(`refused with ${s.data.code}: ${s.data.message}`, s.data.detail)
      + (s.data.nearest?.length ? `; there is ${s.data.nearest.map(quoted).join(", ")}` : ""),
  ],
  "second-stage": (s) => ["other", "plain", s.data.file, `found beside the boot program: ${quoted(s.data.path)}`],
  program: (s) => ["other", "plain", s.data.file, `${programText(s.data.architecture)}; the client is ${s.data.client}`],
  tls: (s) => ["http", "broken", "TLS", s.data.reason],
  problem: (s) => ["other", "broken", "Fault on the server", list(s.data.what, s.data.doing)],
  loop: (s) => ["other", "aside", "Loop broken", `the same files ${count(s.data.times, "time")} in a row: it boots its own disk for a while`],
  restart: () => ["dhcp", "from-client", "Restart", "the firmware starts again"],
  returned: (s) => ["other", "plain", s.data.file, "has returned to the firmware in the boot before"],
  system: () => ["dhcp", "from-client", "System", "an operating system sent a DHCP request"],
  report: (s) => ["other", s.data.by_system ? "from-client" : "plain", s.data.protocol, s.data.what],
  installation: (s) => ["other", s.data.failed ? "broken" : "from-client", s.data.failed ? "Installation failed" : "Installation", s.data.what],
  up: () => ["other", "from-client", "Up", "the installed system reported that it is up"],
};

function lookOf(stage) {
  if (!stage.data.outcome) return "running";
  return DONE.has(stage.data.outcome) ? "file" : "broken";
}

/** {lane, look, title, text} of a stage. */
export function describe(stage) {
  const known = KINDS[stage.kind] ?? ((s) => ["other", "plain", s.kind, ""]);
  const [lane, look, title, text] = known(stage);
  return { lane, look, title: title || stage.kind, text: text || "" };
}
