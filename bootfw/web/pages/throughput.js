// Bytes per second over the last minutes, as a picture.

import { el, show, svg } from "./dom.js";
import { bytes, duration } from "./format.js";

const HEIGHT = 72;

/** The next "round" number above: 1, 2 or 5 with zeros. */
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((each) => each * power).find((each) => each >= value);
}

export function throughputFigure() {
  const picture = el("div");
  const caption = el("figcaption");
  const node = el("figure", {}, picture, caption);
  let latest = null;

  function draw() {
    if (latest === null) return;
    const width = Math.max(200, Math.round(node.clientWidth || 320));
    const values = latest.bytes;
    const peak = Math.max(...values);
    const top = roundUp(Math.max(peak, 1000));
    const x = (index) => (index / (values.length - 1)) * width;
    const y = (value) => HEIGHT - 1 - (value / top) * (HEIGHT - 16);
    const points = values.map((value, index) => `${x(index).toFixed(1)},${y(value).toFixed(1)}`);
    const span = duration(latest.seconds);
    const now = values.at(-1);
    const text = peak
      ? `Throughput of the last ${span}: ${bytes(now)} per second now, at most ${bytes(peak)} per second`
      : `Throughput of the last ${span}: no file was sent`;
    show(picture, svg(
      "svg",
      { viewBox: `0 0 ${width} ${HEIGHT}`, height: HEIGHT, role: "img", "aria-label": text },
      svg("line", { class: "axis", x1: 0, x2: width, y1: HEIGHT - 0.5, y2: HEIGHT - 0.5 }),
      svg("line", { class: "axis", x1: 0, x2: width, y1: 15.5, y2: 15.5 }),
      svg("polygon", { class: "area", points: `0,${HEIGHT - 1} ${points.join(" ")} ${width},${HEIGHT - 1}` }),
      svg("polyline", { class: "curve", points: points.join(" ") }),
      svg("text", { x: 0, y: 11 }, `${bytes(top)}/s`),
    ));
    show(caption, peak ? `Last ${span}, ${bytes(peak)}/s at most; counted when a transfer ends` : `Last ${span}: no file was sent`);
  }

  new ResizeObserver(draw).observe(node);
  return {
    node,
    update(throughput) {
      latest = throughput;
      draw();
    },
  };
}
