// The page of a show1 server. It uses the public API and its events, and nothing else.

import { $, NAMES, button, duration, make, player, say, setText, still } from "./elements.js";
import { chosenAdapters, chosenExpert, offerChoices } from "./choices.js";
import { showRecord } from "./record.js";

const EXAMPLES = ["a panda spins over the snow", "a cat moves left over a green field", "a lion moves left, then up over a pink room", "a pumpkin moves left and a dog moves right over the snow"];
const SECONDS_UNTIL_AGAIN = 3; // until a server that has not answered is asked again
const SECONDS_OF_GROUP = 3; // drafts of one prompt that were asked for within so long belong together

const videos = new Map(); // video objects by id
const tiles = new Map(); // what shows each of them, by id
const chosen = new Map(); // drafts to compare: {id, draft} by the path of their video
let model = null, events = null, watched = "", oldest = null;

// The API ---------------------------------------------------------------------------------------------------------

async function call(method, path, body) {
  const options = { method, headers: {} };
  if (body instanceof FormData) options.body = body;
  else if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["Content-Type"] = "application/json";
  }
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("The server cannot be reached. Is it still running?");
  }
  const answer = await response.json().catch(() => ({}));
  if (response.status === 401) askForKey();
  if (!response.ok) throw new Error(answer.error?.message ?? `The server answered ${response.status}.`);
  return answer;
}

async function attempt(work) {
  try {
    fail("");
    return await work();
  } catch (error) {
    fail(error.message);
  }
}

function fail(message) {
  $("error").textContent = message;
  $("error").hidden = !message;
  if (message) $("error").scrollIntoView({ block: "nearest" });
}

function askForKey() {
  if (!$("login").open) $("login").showModal();
}

$("login-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    const body = JSON.stringify({ key: $("key").value.trim() });
    const response = await fetch("/v1/session", { method: "POST", headers: { "Content-Type": "application/json" }, body });
    if (!response.ok) throw new Error((await response.json()).error.message);
    $("login").close();
    start();
  } catch (error) {
    $("login-error").textContent = error.message;
    $("login-error").hidden = false;
  }
});

// Asking ----------------------------------------------------------------------------------------------------------

function wanted() {
  const number = (id) => ($(id).value === "" ? undefined : Number($(id).value));
  const keyframes = { num_frames: number("frames"), num_inference_steps: number("steps"), guidance_scale: number("guidance") };
  return {
    prompt: $("prompt").value.trim(),
    negative_prompt: $("negative").value.trim() || undefined,
    adapters: chosenAdapters(),
    expert: chosenExpert(),
    extra_params: { keyframes: Object.fromEntries(Object.entries(keyframes).filter(([, value]) => value !== undefined)) },
  };
}

const firstSeed = () => ($("seed").value === "" ? Math.floor(Math.random() * 2 ** 31) : Number($("seed").value));

async function ask(body) {
  const video = await call("POST", "/v1/videos", body);
  show(video);
  return video;
}

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(async () => {
    const seed = firstSeed(), count = Number($("count").value) || 1;
    // One job per draft, so that each is shown as soon as it is done.
    for (let i = 0; i < count; i++) await ask({ ...wanted(), until: model.stages[0], seed: seed + i });
    say(`${count} drafts are being made.`);
  });
});

$("whole").addEventListener("click", () => {
  if (!$("ask").reportValidity()) return;
  attempt(async () => { await ask({ ...wanted(), seed: firstSeed() }); say("The video is being made."); });
});

// One video -------------------------------------------------------------------------------------------------------

const stagePath = (video, stage, draft) => `/v1/videos/${video.id}/stages/${stage}?draft=${draft}`;
const contentPath = (id, draft) => `/v1/videos/${id}/content?draft=${draft}`;
const hasLater = (video) => model && video.stages.at(-1).name !== model.stages.at(-1);
const active = (video) => video.status === "queued" || video.status === "in_progress";

function state(video) {
  if (video.status === "completed") return "";
  if (video.status === "failed") return video.error?.code === "cancelled" ? "Stopped" : `Failed: ${video.error?.message ?? "unknown"}`;
  if (video.status === "queued") {
    const left = video.seconds_left == null ? "" : `, about ${duration(video.seconds_left)}`;
    return video.queue_position == null ? "Waiting" : `Waiting, place ${video.queue_position}${left}`;
  }
  const left = video.stage_seconds_left == null ? "" : `, ${duration(video.stage_seconds_left)} left`;
  return video.stage in NAMES ? `${NAMES[video.stage]}${video.steps ? ` ${video.step}/${video.steps}` : ""}${left}` : "Starting";
}

// The picture of a draft after a stage: its video, a preview while it is computed, or nothing yet.
function fillPicture(place, video, stage, draft) {
  const done = video.stages.find((each) => each.name === stage)?.finished;
  const preview = !done && video.status === "in_progress" && stage === video.stages[0].name ? video.previews?.[draft] : null;
  const key = done ? "done" : preview ? `preview ${preview}` : "nothing";
  if (place.dataset.key === key) return;
  place.dataset.key = key;
  const label = `${NAMES[stage]} of: ${video.prompt}, seed ${video.seeds[draft - 1]}`;
  if (done) place.replaceChildren(player(stagePath(video, stage, draft), label));
  else if (preview) {
    const image = place.querySelector("img") ?? make("img", { alt: `Preview. ${label}` });
    image.src = `/v1/videos/${video.id}/preview?draft=${draft}&at=${preview}`;
    place.replaceChildren(image);
  } else place.replaceChildren("");
}

// What can be done with one draft of a job.
function addActions(id, draft) {
  const pick = button("Finish this one", () => pickDraft(id, draft), { class: "primary" });
  const again = button("Continue", () => pickDraft(id, draft));
  const redo = button("", () => pickDraft(id, draft));
  const save = make("a", { class: "button", download: true }, "Download");
  const box = make("input", { type: "checkbox", onchange: () => choose(id, draft, box.checked) });
  const compare = make("label", { class: "choose" }, box, "Compare");
  function update(now) {
    const done = now.status === "completed";
    pick.hidden = !(done && hasLater(now));
    again.hidden = now.status !== "failed";
    setText(again, now.stages.some((stage) => stage.finished) ? "Continue" : "Try again");
    redo.hidden = !done || hasLater(now) || chosenExpert() === (now.expert ?? undefined);
    setText(redo, `Last stage by ${chosenExpert() ?? "the model itself"}`);
    save.hidden = compare.hidden = !done;
    if (done) save.href = contentPath(id, draft);
  }
  return { elements: [pick, again, redo, save, compare], update };
}

const isWide = (video) => video.stages.length > 1 || video.seeds.length > 1;

function addTile(video) {
  const several = video.seeds.length > 1, wide = isWide(video), last = video.stages.at(-1).name;
  const element = make("div", { class: "tile", role: "group", id: `v-${video.id}` });
  const pictures = make("div", { class: wide ? "strip" : "" });
  const drafts = video.seeds.map((_, index) => addActions(video.id, index + 1)), spots = [];
  for (const stage of video.stages) {
    drafts.forEach((actions, index) => {
      const place = make("div", { class: "picture" }), caption = make("figcaption");
      spots.push({ stage: stage.name, draft: index + 1, place, caption });
      const own = several && stage.name === last ? make("div", { class: "row" }, ...actions.elements) : null;
      pictures.append(wide ? make("figure", {}, place, caption, own) : place);
    });
  }
  const facts = make("span", { class: "facts" }), note = make("span", { class: "facts" });
  const bar = make("progress", { max: 100, value: 0, "aria-label": "Progress" });
  const stop = button("Stop", () => attempt(async () => show(await call("POST", `/v1/videos/${video.id}/cancel`))));
  const remove = button("Delete", () => attempt(() => forget(video.id)));
  element.append(pictures, facts, bar, note, make("div", { class: "row" }, ...(several ? [] : drafts[0].elements), stop, remove));
  const tile = { element, update };
  tiles.set(video.id, tile);
  function update() {
    const now = videos.get(video.id);
    for (const { stage, draft, place, caption } of spots) {
      fillPicture(place, now, stage, draft);
      const { seconds } = now.stages.find((each) => each.name === stage);
      setText(caption, `${NAMES[stage]}${seconds ? `, ${duration(seconds)}` : ""}${several ? `, seed ${now.seeds[draft - 1]}` : ""}`);
    }
    const seeds = several ? `Seeds ${now.seeds[0]} to ${now.seeds.at(-1)}` : `Seed ${now.seed}`;
    element.setAttribute("aria-label", `${now.stages.length > 1 ? "Video" : "Draft"}, ${seeds.toLowerCase()}`);
    const by = now.expert && now.stages.length > 1 ? ` · last stage by ${now.expert}` : "";
    setText(facts, wide ? `${seeds} · ${now.num_frames ?? "?"} frames of ${now.size}${by}` : seeds);
    setText(note, state(now));
    note.className = now.status === "failed" && now.error?.code !== "cancelled" ? "error" : "facts";
    bar.hidden = !active(now);
    bar.value = now.progress;
    for (const actions of drafts) actions.update(now);
    stop.hidden = !active(now);
    remove.hidden = active(now);
  }
  return tile;
}

async function pickDraft(id, draft) {
  await attempt(async () => {
    const expert = model.experts.length ? chosenExpert() ?? "none" : undefined;
    const video = await call("POST", `/v1/videos/${id}/continue`, { draft, expert });
    show(video);
    say("The later stages are being made.");
    tiles.get(video.id).element.scrollIntoView({ block: "nearest", behavior: still.matches ? "auto" : "smooth" });
  });
}

async function forget(id) {
  await call("DELETE", `/v1/videos/${id}`);
  drop(id);
  say("Deleted.");
}

function drop(id) {
  videos.delete(id);
  tiles.get(id)?.element.remove();
  tiles.delete(id);
  for (const each of [...chosen.values()]) if (each.id === id) choose(id, each.draft, false);
  arrange();
}

// All videos ------------------------------------------------------------------------------------------------------

function show(...given) {
  for (const video of given) {
    const before = videos.get(video.id);
    videos.set(video.id, video);
    (tiles.get(video.id) ?? addTile(video)).update();
    if (before && active(before) && video.status === "completed") {
      say(`${video.stages.length > 1 ? "The video" : "A draft"} of ${video.prompt} is ready, seed ${video.seed}.`);
    }
  }
  arrange();
  watch();
}

// Drafts of one prompt that were asked for together make a card, with what became of them below.
function groups() {
  const sorted = [...videos.values()].sort((a, b) => a.created_at - b.created_at || (a.id < b.id ? -1 : 1));
  const found = [], place = new Map();
  for (const video of sorted) {
    const source = place.get(video.continued_from_video_id);
    const drafts = video.stages.length === 1 && !video.continued_from_video_id;
    const same = drafts && found.findLast((group) => group.drafts && group.prompt === video.prompt
      && video.created_at - group.latest < SECONDS_OF_GROUP);
    const group = source ?? (same || null) ?? { id: video.id, prompt: video.prompt, drafts, members: [] };
    if (!group.members.length) found.push(group);
    group.members.push(video);
    if (drafts) group.latest = video.created_at;
    place.set(video.id, group);
  }
  return found.reverse();
}

function arrange() {
  const list = $("history"), cards = new Map([...list.children].map((card) => [card.dataset.id, card]));
  const now = groups();
  now.forEach((group, index) => {
    const card = cards.get(group.id) ?? addCard(group);
    cards.delete(group.id);
    if (list.children[index] !== card) list.insertBefore(card, list.children[index] ?? null);
    for (const video of group.members) {
      const home = card.querySelector(isWide(video) ? ".wide" : ".grid"), { element } = tiles.get(video.id);
      if (element.parentElement !== home) home.append(element);
    }
    for (const home of card.querySelectorAll(".wide, .grid")) home.hidden = !home.children.length;
  });
  for (const card of cards.values()) card.remove();
  $("empty").hidden = now.length > 0;
}

function addCard(group) {
  const use = button("Use this prompt", () => { $("prompt").value = group.prompt; $("prompt").focus(); }, { class: "example" });
  const head = make("div", { class: "row spread" }, make("h3", {}, group.prompt), use);
  const warnings = group.members[0].warnings.map((text) => make("p", { class: "warning" }, `${text[0].toUpperCase()}${text.slice(1)}.`));
  return make("li", { "data-id": group.id }, head, ...warnings, make("div", { class: "grid" }), make("div", { class: "wide" }));
}

function watch() {
  const ids = [...videos.values()].filter(active).map((video) => video.id).slice(0, 100).join(",");
  if (ids === watched) return;
  watched = ids;
  events?.close();
  if (!ids) return;
  const source = events = new EventSource(`/v1/events?ids=${ids}`);
  events.addEventListener("video", (event) => show(JSON.parse(event.data)));
  events.addEventListener("deleted", (event) => drop(JSON.parse(event.data).id));
  events.addEventListener("end", () => { events.close(); watched = ""; watch(); });
  events.addEventListener("open", () => connected());
  events.addEventListener("error", () => {
    setText($("server"), "The connection is lost; trying again…");
    // The browser tries again by itself, but for ever only if the answer's status was 200.
    if (source === events && source.readyState === EventSource.CLOSED) setTimeout(reconnect, 1000 * SECONDS_UNTIL_AGAIN, source);
  });
}

async function reconnect(source) {
  if (source !== events) return; // others are watched by now
  watched = "";
  try {
    show(...(await call("GET", "/v1/videos?limit=100")).data);
    if (source === events) connected(); // nothing is left to watch
  } catch {
    setTimeout(reconnect, 1000 * SECONDS_UNTIL_AGAIN, source);
  }
}

const connected = () => setText($("server"), model ? `Model ${model.id} · videos of ${model.size}` : "");

async function load(after) {
  const page = await call("GET", `/v1/videos?limit=40${after ? `&after=${after}` : ""}`);
  oldest = page.last_id;
  $("older").hidden = !page.has_more;
  show(...page.data);
}

$("older").addEventListener("click", () => attempt(() => load(oldest)));

// Comparing -------------------------------------------------------------------------------------------------------

function choose(id, draft, on) {
  on ? chosen.set(contentPath(id, draft), { id, draft }) : chosen.delete(contentPath(id, draft));
  $("compare").disabled = chosen.size !== 2;
  setText($("compare"), chosen.size === 2 ? "Compare these two" : "Compare two");
}

$("compare").addEventListener("click", () => {
  const players = [...chosen].map(([path, { id, draft }]) => {
    const video = videos.get(id), label = `${video.prompt}, seed ${video.seeds[draft - 1]}`;
    return { video, label, element: player(path, label, true) };
  });
  const [first, second] = players.map((each) => each.element);
  for (const [one, other] of [[first, second], [second, first]]) {
    one.addEventListener("pause", () => other.pause());
    one.addEventListener("play", () => other.play());
    one.addEventListener("seeked", () => {
      const share = one.currentTime / one.duration, to = share * other.duration;
      if (Math.abs(other.currentTime - to) > 0.3 && one.paused) other.currentTime = to;
    });
  }
  const figures = players.map(({ video, label, element }) => make("figure", {}, make("div", { class: "picture" }, element),
    make("figcaption", {}, `${label}, ${NAMES[video.until]}`)));
  const close = button("Close", () => { $("compared").hidden = true; $("compare").focus(); });
  $("compared").replaceChildren(make("div", { class: "row spread" }, make("h2", {}, "Comparison"), close),
    make("div", { class: "pair" }, ...figures));
  $("compared").hidden = false;
  $("compared").scrollIntoView({ block: "nearest" });
  close.focus();
});

// Dropping --------------------------------------------------------------------------------------------------------

async function inspect(file) {
  const form = new FormData();
  form.append("file", file);
  showRecord(file.name, await call("POST", "/v1/inspect", form), model, (body) => attempt(() => ask(body)));
}

$("file").addEventListener("change", () => { const [file] = $("file").files; if (file) attempt(() => inspect(file)); $("file").value = ""; });
for (const kind of ["dragenter", "dragover"]) {
  addEventListener(kind, (event) => { event.preventDefault(); $("drop").classList.add("over"); });
}
for (const kind of ["dragleave", "drop"]) addEventListener(kind, () => $("drop").classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  const [file] = event.dataTransfer.files;
  if (file) attempt(() => inspect(file));
});

// Beginning -------------------------------------------------------------------------------------------------------

async function start() {
  await attempt(async () => {
    [model] = (await call("GET", "/v1/models")).data;
    connected();
    const { keyframes } = model.settings;
    $("frames").placeholder = keyframes.num_frames;
    $("steps").placeholder = keyframes.num_inference_steps;
    $("guidance").placeholder = keyframes.guidance_scale;
    $("count").max = model.max_count;
    await offerChoices(model, call, attempt, () => { for (const tile of tiles.values()) tile.update(); });
    await load();
  });
  if (!model) setText($("server"), "Not connected");
}

for (const text of EXAMPLES) {
  $("examples").append(button(text, () => { $("prompt").value = text; $("prompt").focus(); }, { class: "example" }));
}
start();
