// Elements without templates: text is never parsed as HTML.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** An element: el("a", {href: "#/boots"}, "Boots"). A listener is {onclick: function}. */
export function el(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** An SVG element; arguments as for el(). */
export function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

/** A sentence about something that went wrong. */
export function failure(text) {
  return el("p", { class: "problem", role: "alert" }, text);
}

/** A name and a value, as an item of a dl; null without a value. */
export function fact(name, value) {
  return value ? el("div", {}, el("dt", {}, name), el("dd", {}, value)) : null;
}

/**
 * A table that keeps its roles where the style sheet makes cards of its rows.
 * columns: [{name, class}]. The result has a method rows(list of rows), of [key, [cells]]; rows are reused by their key.
 */
export function table(caption, columns, options = {}) {
  const body = el("tbody", { role: "rowgroup" });
  const head = columns.map((column) => el("th", { role: "columnheader", scope: "col", class: column.class }, column.name));
  const node = el(
    "table",
    { role: "table", class: `cards ${options.class ?? ""}` },
    el("caption", { class: "unseen" }, caption),
    el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, head)),
    body,
  );
  const known = new Map(); // key -> {row, signature}
  function rows(list, fresh = false) {
    const keys = new Set(list.map(([key]) => key));
    for (const [key, each] of known) {
      if (!keys.has(key)) {
        each.row.remove();
        known.delete(key);
      }
    }
    let next = body.firstChild;
    for (const [key, cells, signature] of list) {
      let each = known.get(key);
      if (each === undefined || each.signature !== signature || signature === undefined) {
        const newCells = cells().map((cell, index) =>
          el(index === (options.header ?? 0) ? "th" : "td", {
            role: index === (options.header ?? 0) ? "rowheader" : "cell",
            scope: index === (options.header ?? 0) ? "row" : null,
            class: columns[index].class,
          }, cell));
        if (each === undefined) {
          each = { row: el("tr", { role: "row", class: fresh ? "fresh" : null }), signature };
          known.set(key, each);
        }
        const focused = each.row.contains(document.activeElement);
        each.signature = signature;
        each.row.replaceChildren(...newCells);
        if (focused) each.row.querySelector("a, button")?.focus();
      }
      if (each.row === next) next = next.nextSibling;
      else body.insertBefore(each.row, next);
    }
  }
  return { node, rows };
}

/** Replace the children of a node. */
export function show(node, ...children) {
  node.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
}
