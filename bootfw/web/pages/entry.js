// What the operator has set for a machine: its name, tags and image, and a form that changes them.

import { el, fact, failure, show } from "./dom.js";
import { capital, MAC } from "./format.js";
import { post, read } from "./remote.js";

const tagsOf = (text) => text.split(/[\s,]+/).filter(Boolean);

export function entryPanel(context, mac) {
  const node = el("div");
  const message = el("p", { class: "muted", role: "status" });
  let closed = false;

  function form(machine, images) {
    const name = el("input", { id: "name", value: machine.name, placeholder: "web1", autocomplete: "off", spellcheck: "false" });
    const tags = el("input", { id: "tags", value: machine.tags.join(" "), placeholder: "rack1 role=web", autocomplete: "off", spellcheck: "false" });
    // An image that is not there any more stays chosen until another one is.
    const choices = images.some((each) => each.name === machine.image) || !machine.image ? images : [{ name: machine.image }, ...images];
    const image = el("select", { id: "image" }, el("option", { value: "" }, "None"),
      choices.map((each) => el("option", { value: each.name, selected: each.name === machine.image }, each.name)));

    async function save(event) {
      event.preventDefault();
      const values = { name: name.value.trim(), tags: tagsOf(tags.value), image: image.value };
      // What the form does not change stays as it is, such as a name that comes from a host file.
      const changed = Object.entries(values).filter(([key, value]) => JSON.stringify(value) !== JSON.stringify(machine[key]));
      if (!changed.length) return show(message, "Nothing was changed.");
      try {
        if (await post("machine", { mac, ...Object.fromEntries(changed) }, context.promptForToken)) {
          await load();
          show(message, "Saved.");
        }
      } catch (error) {
        show(message, `${capital(error.message)}.`);
      }
    }

    return el("form", { class: "controls", onsubmit: save },
      el("label", { for: "name" }, "Name", name),
      el("label", { class: "wide", for: "tags" }, "Tags", tags),
      el("label", { for: "image" }, "Image", image),
      el("button", { class: "main" }, "Save"));
  }

  async function load() {
    if (!context.status?.has.includes("machines") || !MAC.test(mac)) return;
    const can = context.status.can.includes("machine");
    const [found, images] = await Promise.all([read("machines", { machine: mac }), can ? read("images") : null]);
    if (closed) return;
    const machine = found.records[0] ?? { name: "", tags: [], image: "", host: "" };
    show(message);
    show(node, el("section", { class: "panel padded stack" },
      el("h2", {}, "Machine"),
      can
        ? form(machine, images.records)
        : el("dl", { class: "facts" }, fact("Name", machine.name || "none"), fact("Tags", machine.tags.join(", ")), fact("Image", machine.image)),
      machine.host ? el("p", { class: "muted" }, `It has the host file or table ${machine.host}; what is set here goes before it.`) : null,
      message));
  }

  return {
    node,
    load: () => load().catch((error) => show(node, failure(`${capital(error.message)}.`))),
    close() {
      closed = true;
    },
  };
}
