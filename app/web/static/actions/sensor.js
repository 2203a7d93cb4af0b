/** Changing a sensor: describing, renaming, retiring and deleting it. */

import { put, remove } from "../core/api.js";
import { make } from "../core/dom.js";
import { openDialog } from "./dialog.js";

const NAME_LIMIT = 200;
const NOTES_LIMIT = 2_000;
/** What the names of fields for units begin with; the metric follows. */
const UNIT = "unit of ";

/** Ask for what is to be known of a sensor; `onChanged(facts)` gets what the server then says of it. */
export function openEdit(facts, onChanged) {
  const before = textsOf(facts);
  const units = Object.keys(facts.latest).map((metric) => UNIT + metric);
  openDialog({
    title: "Edit",
    fields: [
      field("display_name", "Shown as", before, { maxlength: NAME_LIMIT, autofocus: true, placeholder: facts.name }),
      field("name", "Name", before, { maxlength: NAME_LIMIT, required: true }),
      field("expected_interval", "Interval", before, { placeholder: "seconds, or as in 10m" }),
      ...units.map((key) => field(key, `Unit of ${key.slice(UNIT.length)}`, before, { placeholder: "as uploads say" })),
      area("tags", "Tags", before, { rows: 3, placeholder: "site: harbour" }),
      area("notes", "Notes", before, { rows: 3, maxlength: NOTES_LIMIT }),
      make("p", { class: "help" }, "An empty field takes back what was set. A new name keeps the old one as an alias."),
    ],
    confirm: "Save",
    act: async (data) => {
      const changed = Object.keys(before).filter((key) => data.get(key).trim() !== before[key].trim());
      if (changed.length === 0) return;
      onChanged(await put(addressOf(facts), bodyOf(changed, data)));
    },
  });
}

/** Ask whether to take a sensor out of use, and do so. */
export function openRetire(facts, onChanged) {
  openDialog({
    title: "Retire",
    fields: [
      make("p", {}, `${facts.name} leaves lists and states, and its open alerts end. Its readings stay.`),
      make("p", {}, "It comes back by itself when it reports again."),
    ],
    confirm: "Retire",
    act: async () => onChanged(await put(addressOf(facts), { retired: true })),
  });
}

/** Take a retired sensor into use again. */
export async function useAgain(facts, onChanged) {
  onChanged(await put(addressOf(facts), { retired: false }));
}

/** Ask twice whether to delete a sensor, and do so; `onChanged(null)` follows. */
export function openDelete(facts, onChanged) {
  openDialog({
    title: "Delete",
    fields: [
      make("p", {}, `Delete ${facts.name} with all its readings and alerts, for good?`),
      make("p", {}, "Retiring it takes it out of use and keeps its readings."),
    ],
    confirm: "Go on",
    act: () => askForName(facts, onChanged),
  });
}

function askForName(facts, onChanged) {
  openDialog({
    title: "Delete for good",
    fields: [
      make("p", {}, `To delete ${facts.name}, type its name.`),
      field("typed", "Name", { typed: "" }, { autofocus: true, required: true, autocomplete: "off" }),
    ],
    confirm: "Delete",
    act: async (data) => {
      if (data.get("typed").trim() !== facts.name.trim()) throw new Error(`This is not the name: ${facts.name}`);
      await remove(addressOf(facts));
      onChanged(null);
    },
  });
}

function addressOf({ name }) {
  return `api/v1/sensors/${encodeURIComponent(name)}`;
}

/** Return the texts of the form's fields as they are now. */
function textsOf(facts) {
  const units = Object.entries(facts.latest).map(([metric, { unit }]) => [UNIT + metric, unit ?? ""]);
  return {
    display_name: facts.display_name ?? "",
    name: facts.name,
    expected_interval: facts.expected_interval === null ? "" : String(facts.expected_interval),
    ...Object.fromEntries(units),
    tags: Object.entries(facts.tags).map(lineOf).join("\n"),
    notes: facts.notes ?? "",
  };
}

/** Return the body of the request that changes these fields; what is empty becomes null. */
function bodyOf(changed, data) {
  const body = {};
  for (const key of changed) {
    const text = data.get(key).trim().replaceAll("\r\n", "\n");
    if (key.startsWith(UNIT)) body.units = { ...body.units, [key.slice(UNIT.length)]: text || null };
    else if (key === "tags") body.tags = text === "" ? null : parseTags(text);
    else if (key === "expected_interval") body.expected_interval = /^[\d.]+$/.test(text) ? Number(text) : text || null;
    else body[key] = text || null;
  }
  return body;
}

/** Return a tag as a line; in quotes, as JSON, where a plain line would be read otherwise. */
function lineOf([tag, value]) {
  const isPlain = !/[:"\n]/.test(tag) && !value.includes("\n") && tag === tag.trim() && value === value.trim();
  return isPlain ? `${tag}: ${value}` : `${JSON.stringify(tag)}: ${JSON.stringify(value)}`;
}

function parseTags(text) {
  const pairs = text.split("\n").filter((line) => line.trim() !== "").map((line) => {
    if (/^"(.*)": "(.*)"$/.test(line)) return Object.entries(JSON.parse(`{${line}}`))[0];
    const [tag, ...rest] = line.split(":");
    if (rest.length === 0) throw new Error(`“${line}” has no value; write a tag in each line, as in site: harbour`);
    return [tag.trim(), rest.join(":").trim()];
  });
  return Object.fromEntries(pairs);
}

function field(name, label, texts, attributes) {
  const input = make("input", { id: name, name, value: texts[name], ...attributes });
  return make("div", { class: "dialog-field" }, make("label", { for: name }, label), input);
}

function area(name, label, texts, attributes) {
  const input = make("textarea", { id: name, name, ...attributes }, texts[name]);
  return make("div", { class: "dialog-field" }, make("label", { for: name }, label), input);
}
