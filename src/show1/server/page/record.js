// How a dropped video was made, and whether this server can make it again.

import { offeredAdapters } from "./choices.js";
import { $, NAMES, button, make } from "./elements.js";

// The expert of this server that a recorded video was made with.
const expertOf = (record, model) => model.experts.find((expert) => expert.model === record.model.name)?.name;

// Why this server cannot make a recorded video again; empty if it can.
function obstacle(record, model) {
  const lacking = (record.model.adapters ?? []).filter(({ name }) => !offeredAdapters().includes(name)).map(({ name }) => name);
  if (record.model.name !== model.id && !expertOf(record, model)) return `It was made with the model ${record.model.name}; this server has ${model.id}.`;
  if (lacking.length) return `It was made with ${lacking.join(", ")}, which this server does not have.`;
  return record.stages[0] === model.stages[0] ? "" : `It was made from another video, from ${NAMES[record.stages[0]]} on, which the file does not hold.`;
}

const isRecord = (record) => record?.prompt && Array.isArray(record.stages) && record.stages.length && record.settings && record.model;

/** Shows the facts of a file; `ask` is called with the body of a request that makes the video again. */
export function showRecord(name, facts, model, ask) {
  const record = facts.metadata;
  const close = button("Close", () => { $("found").hidden = true; });
  const title = make("div", { class: "row spread" }, make("h2", {}, name), close);
  const shape = make("p", { class: "facts" }, `${facts.num_frames} frames of ${facts.width}x${facts.height}, ${facts.fps.toFixed(1)} frames per second`);
  if (!isRecord(record)) {
    $("found").replaceChildren(title, shape, make("p", {}, "The file does not say how it was made: only videos by show1 do."));
  } else {
    const settings = Object.fromEntries(Object.entries(record.settings).filter(([name]) => record.stages.includes(name)));
    const adapters = Object.fromEntries((record.model.adapters ?? []).map(({ name, weight }) => [name, weight]));
    const remake = () => ask({ prompt: record.prompt, seed: record.seed, until: record.stages.at(-1), expert: expertOf(record, model), adapters, extra_params: settings });
    const again = button("Make it again", remake, { class: "primary" });
    const use = button("Use its prompt and seed", () => { $("prompt").value = record.prompt; $("seed").value = record.seed; $("more").open = true; $("prompt").focus(); });
    const why = obstacle(record, model);
    const all = make("details", {}, make("summary", {}, "All settings"), make("pre", { tabindex: 0 }, JSON.stringify(record.settings, null, 2)));
    const text = make("p", {}, make("strong", {}, record.prompt), `, seed ${record.seed}, ${record.stages.map((stage) => NAMES[stage]).join(", ")}`);
    again.hidden = why !== "";
    $("found").replaceChildren(title, text, shape, ...(why ? [make("p", { class: "error" }, why)] : []), make("div", { class: "row" }, again, use), all);
  }
  $("found").hidden = false;
  $("found").scrollIntoView({ block: "nearest" });
}
