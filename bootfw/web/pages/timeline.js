// One boot as a picture: its stages on a time axis, a lane for each protocol.

import { el, show, svg } from "./dom.js";
import { capital, count, duration, verdict } from "./format.js";
import { describe } from "./stages.js";

const LANES = [["dhcp", "DHCP"], ["tftp", "TFTP"], ["http", "HTTP"], ["other", "Server"]];
const ROW = 20;
const MARGIN = 58;
const MOST_ROWS = 5;

function step(span, width) {
  const wanted = span / Math.max(2, width / 90);
  const power = 10 ** Math.floor(Math.log10(wanted));
  return [1, 2, 5, 10].map((each) => each * power).find((each) => each >= wanted);
}

const isSpan = (stage) => stage.kind === "transfer" || stage.kind === "upload";

/** Rows of a lane, so that bars which overlap stand below each other. */
function packRows(items) {
  const ends = [];
  for (const item of items) {
    let row = ends.findIndex((end) => end <= item.from);
    if (row < 0) row = ends.length < MOST_ROWS ? ends.length : MOST_ROWS - 1;
    ends[row] = Math.max(ends[row] ?? 0, item.to);
    item.row = row;
  }
  return Math.max(1, ends.length);
}

function mark(item, y) {
  const { look, x } = item;
  if (look === "broken") {
    return svg("path", { class: "broken", d: `M${x - 5} ${y - 4}l1.5-1.5 3.5 3.5 3.5-3.5 1.5 1.5-3.5 3.5 3.5 3.5-1.5 1.5-3.5-3.5-3.5 3.5-1.5-1.5 3.5-3.5z` });
  }
  if (look === "from-server") return svg("path", { class: look, d: `M${x} ${y - 5.5}l5.5 5.5-5.5 5.5-5.5-5.5z` });
  if (look === "aside") return svg("path", { class: look, d: `M${x} ${y - 5.5}l5.5 10h-11z` });
  return svg("circle", { class: look, cx: x, cy: y, r: look === "plain" ? 3 : 4.5 });
}

function draw(boot, width) {
  const began = boot.began;
  const last = Math.max(...boot.stages.map((stage) => Math.max(stage.at, stage.until)), began + 0.001);
  const span = Math.max(last - began, 0.05) * 1.04;
  const left = MARGIN;
  const right = width - 10;
  const xOf = (at) => left + ((at - began) / span) * (right - left);
  const nodes = [];
  let top = 8;
  for (const [lane, name] of LANES) {
    const items = boot.stages.map((stage) => ({ stage, ...describe(stage) })).filter((item) => item.lane === lane);
    if (!items.length) continue;
    for (const item of items) {
      item.x = xOf(item.stage.at);
      const until = Math.max(item.stage.at, item.stage.until);
      item.from = item.x;
      item.to = xOf(until);
    }
    const spans = items.filter((item) => isSpan(item.stage));
    const marks = items.filter((item) => !isSpan(item.stage));
    const markRow = spans.length ? packRows(spans) : 0;
    const rows = markRow + (marks.length ? 1 : 0);
    // Packets of the client are drawn above the replies, which may follow within a millisecond.
    const gap = marks.some((item) => item.look === "from-client") && marks.some((item) => item.look === "from-server") ? 6 : 0;
    const shift = { "from-client": -gap, "from-server": gap };
    const height = rows * ROW + 8 + 2 * gap;
    nodes.push(svg("line", { class: "lane", x1: 0, x2: width, y1: top + height, y2: top + height }));
    nodes.push(svg("text", { x: 0, y: top + ROW / 2 + 8 + (spans.length ? 0 : gap) }, name));
    for (const item of spans) {
      const y = top + 4 + item.row * ROW;
      nodes.push(svg("rect", { class: item.look, x: item.from, y: y + 2, width: Math.max(3, item.to - item.from - 1), height: ROW - 5, rx: 2 }));
      const label = item.title.split("/").at(-1);
      if (label.length * 6.4 + 8 < item.to - item.from) {
        nodes.push(svg("text", { class: "inside", x: item.from + 4, y: y + ROW / 2 + 4 }, label));
      }
    }
    for (const item of marks) {
      const y = top + 4 + markRow * ROW + ROW / 2 + gap + (shift[item.look] ?? 0);
      if (item.stage.count > 1) {
        const end = xOf(Math.max(item.stage.at, item.stage.until));
        nodes.push(svg("line", { class: `again ${item.look}`, x1: item.x, x2: end, y1: y, y2: y }));
        nodes.push(svg("line", { class: `again ${item.look}`, x1: end, x2: end, y1: y - 4, y2: y + 4 }));
        nodes.push(svg("text", { class: "label", x: (item.x + end) / 2, y: y - 3, "text-anchor": "middle" }, `×${item.stage.count}`));
      }
      nodes.push(mark(item, y));
    }
    top += height;
  }
  const each = step(span, right - left);
  for (let at = 0; at <= span; at += each) {
    const x = xOf(began + at);
    nodes.unshift(svg("line", { class: "axis", x1: x, x2: x, y1: 0, y2: top }));
    if (x < right - 14) nodes.push(svg("text", { x, y: top + 14, "text-anchor": at ? "middle" : "start" }, at ? duration(at) : "0"));
  }
  if (boot.ended !== null && boot.stages.length) {
    nodes.push(svg("line", { class: "end", x1: xOf(last), x2: xOf(last), y1: 0, y2: top }));
  }
  return { nodes, height: top + 20 };
}

function summary(boot) {
  const files = boot.stages.filter(isSpan).length;
  const again = boot.stages.reduce((sum, stage) => sum + stage.count - 1, 0);
  return `Timeline of a boot: ${count(boot.stages.length, "stage")} in ${duration(boot.seconds)}, ${count(files, "transfer")}, `
    + `${count(again, "retry", "retries")}; ${boot.verdict}${boot.cause ? `: ${boot.cause.sentence}` : ""}. The table below has each stage.`;
}

const LEGEND = [
  ["from-client", "the client sends"], ["from-server", "bootfw answers"], ["file", "file loaded"],
  ["running", "file being loaded"], ["broken", "failed"], ["aside", "worth a look"], ["plain", "decided on the server"],
];

export function timelineFigure(boot) {
  const picture = el("div");
  const looks = new Set(boot.stages.map((stage) => describe(stage).look));
  const legend = el("ul", { class: "legend" }, LEGEND.filter(([look]) => looks.has(look)).map(([look, text]) =>
    el("li", {}, svg("svg", { width: 14, height: 14, "aria-hidden": "true" },
      look === "file" || look === "running"
        ? svg("rect", { class: look, x: 0, y: 3, width: 14, height: 8, rx: 2 })
        : mark({ look, x: 7 }, 7)), text)));
  const node = el("figure", {}, picture, legend);
  let width = 0;
  new ResizeObserver(() => {
    const now = Math.round(node.clientWidth);
    if (now === width || now === 0) return;
    width = now;
    const { nodes, height } = draw(boot, width);
    show(picture, svg("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": summary(boot) }, nodes));
  }).observe(node);
  return node;
}

export function causeOf(boot) {
  // The sentence goes on from the name of the machine; both come without a full stop.
  const words = boot.cause
    ? [el("strong", {}, `${capital(boot.cause.sentence)}.`), el("span", {}, `${capital(boot.cause.remedy)}.`)]
    : [];
  return el("div", { class: "cause" }, verdict(boot.verdict), words);
}
