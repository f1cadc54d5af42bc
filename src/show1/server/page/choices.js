// The experts and adapters to choose, and uploads of adapters.

import { $, NAMES, make, say } from "./elements.js";

let adapters = []; // those of GET /v1/adapters

export const chosenExpert = () => $("expert").value || undefined;
const fitting = () => adapters.filter(({ expert }) => expert === null || expert === (chosenExpert() ?? null));
const chosen = () => fitting().find(({ name }) => name === $("adapter").value);
export const chosenAdapters = () => (chosen() ? { [chosen().name]: Number($("weight").value) } : undefined);
export const offeredAdapters = () => adapters.map(({ name }) => name);

const options = (select, pairs) => select.replaceChildren(...pairs.map(([value, text]) => make("option", { value }, text)));

function showAdapters() {
  const before = $("adapter").value;
  options($("adapter"), [["", "none"], ...fitting().map(({ name }) => [name, name])]);
  if (fitting().some(({ name }) => name === before)) $("adapter").value = before;
  for (const id of ["adapter", "weight"]) $(id).parentElement.hidden = !fitting().length;
  showChosen();
}

function showChosen() {
  const adapter = chosen();
  $("trigger").hidden = !adapter?.prompt;
  $("trigger").textContent = adapter?.prompt ? `${adapter.name} was made with the words: ${adapter.prompt}` : "";
  $("forget-adapter").hidden = !adapter?.uploaded;
}

const nameOf = (file) => file.name.replace(/\.safetensors$/i, "").replace(/[^A-Za-z0-9._-]+/g, "-").replace(/^[^A-Za-z0-9]+/, "").slice(0, 64) || "adapter";

/** Fills the settings with what the server offers; `changed` is called when another expert is chosen. */
export async function offerChoices(model, call, attempt, changed) {
  async function load() {
    adapters = (await call("GET", "/v1/adapters")).data;
    showAdapters();
  }
  const last = model.stages.at(-1), before = $("expert").value;
  options($("expert"), [["", `${NAMES[last]} (the model itself)`], ...model.experts.map(({ name, size }) => [name, `${name}, ${size}`])]);
  $("expert").value = model.experts.some(({ name }) => name === before) ? before : "";
  $("expert").parentElement.hidden = !model.experts.length;
  const stages = model.stages.map((stage) => [`stage ${stage}`, NAMES[stage]]), experts = model.experts.map(({ name }) => [`expert ${name}`, name]);
  options($("upload-for"), [["", "the stage that it names"], ...stages, ...experts]);
  $("uploads").hidden = !model.takes_adapters;
  $("expert").onchange = () => { showAdapters(); changed(); };
  $("adapter").onchange = showChosen;
  $("upload").onchange = () => attempt(async () => {
    const [file] = $("upload").files, form = new FormData(), [kind, what] = $("upload-for").value.split(" ");
    if (!file) return;
    form.append("name", nameOf(file));
    if (kind) form.append(kind, what);
    form.append("file", file);
    $("upload").value = "";
    const added = await call("POST", "/v1/adapters", form);
    await load();
    $("adapter").value = added.name;
    showChosen();
    say(`The adapter ${added.name} can be chosen.`);
  });
  $("forget-adapter").onclick = () => attempt(async () => {
    await call("DELETE", `/v1/adapters/${encodeURIComponent($("adapter").value)}`);
    await load();
    say("The adapter is deleted.");
  });
  await load();
}
