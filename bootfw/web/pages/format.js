// Numbers, times and states as the viewer reads them.

import { el, svg } from "./dom.js";

const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const day = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric" });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });

export const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;

/** A time, in seconds since the epoch, in the viewer's time zone; with the day unless it is today. */
export function timeElement(seconds) {
  const date = new Date(seconds * 1000);
  const today = new Date().toDateString() === date.toDateString();
  const text = today ? clock.format(date) : `${day.format(date)}, ${clock.format(date)}`;
  return el("time", { datetime: date.toISOString(), title: full.format(date) }, text);
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "";
  if (seconds < 0.001) return "< 1 ms";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  const minutes = Math.floor(seconds / 60);
  const rest = Math.round(seconds % 60);
  if (minutes < 60) return rest ? `${minutes} min ${rest} s` : `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} days`;
}

/** Seconds since the boot began. */
export function offset(seconds) {
  if (seconds < 1) return `+${Math.max(0, Math.round(seconds * 1000))} ms`;
  return seconds < 100 ? `+${seconds.toFixed(2)} s` : `+${duration(seconds)}`;
}

export function bytes(count) {
  if (count < 1000) return `${Math.round(count)} B`;
  const units = ["kB", "MB", "GB", "TB"];
  let value = count;
  let unit = -1;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

export function count(number, one, many = `${one}s`) {
  return `${number.toLocaleString()} ${number === 1 ? one : many}`;
}

/** The text with a capital first letter; "iPXE" stays as it is. */
export function capital(text) {
  if (/^.[A-Z]/.test(text)) return text;
  return text.charAt(0).toUpperCase() + text.slice(1);
}

const VERDICTS = {
  "in progress": "busy",
  booted: "good",
  up: "good",
  "nothing to boot": "rest",
  "sent to another server": "rest",
  failed: "bad",
  interrupted: "rest",
};

export const verdicts = Object.keys(VERDICTS);

const SHAPES = {
  good: "M2.5 6.5l2.5 2.5 5-5.5",
  bad: "M3 3l6 6M9 3l-6 6",
  busy: "M6 2.5v3.5l2.5 1.5",
  rest: "M2.5 6h7",
};

/** A verdict as a word with a sign, whose kinds differ in shape as well as in colour. */
export function verdict(name) {
  const kind = VERDICTS[name] ?? "rest";
  const sign = svg(
    "svg",
    { width: 14, height: 14, viewBox: "0 0 12 12", "aria-hidden": "true", focusable: "false" },
    svg("circle", { cx: 6, cy: 6, r: 5.25, fill: "none", stroke: "currentColor", "stroke-width": 1 }),
    svg("path", {
      d: SHAPES[kind], fill: "none", stroke: "currentColor", "stroke-width": 1.6,
      "stroke-linecap": "round", "stroke-linejoin": "round",
    }),
  );
  return el("span", { class: `verdict ${kind}` }, sign, capital(name));
}

/** The name of a boot's machine: its MAC, else its UUID, else its first IP address. */
export function machineName(boot) {
  return boot.mac || boot.uuid || boot.addresses[0] || "unknown";
}

/** What a whole MAC looks like in records. */
export const MAC = /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/;

/** The link to the page of a machine. */
export function machineLink(name) {
  return `#/machine/${encodeURIComponent(name)}`;
}
