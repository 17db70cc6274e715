// The desk: opens scans, hears keys, sends what was said and drawn. A rating is on the server's disk before the next scan shows.
"use strict";
import { Refused, ask, randomKey, scanPath, send } from "./api.js";
import { Brush, TOOLS } from "./brush.js";
import { $, ScanList, button, make, markPlace, showCommands, showPlaces, showStanding, showVerdict } from "./panels.js";
import { RatingForm } from "./rating.js";
import { VIEWS, Viewer, readLayer } from "./viewer.js";

const AUTOSAVE_MS = 1200;
const state = { me: null, details: null, place: -1, opened: 0, skipped: [], unseen: new Set(), history: [], ahead: null, saving: Promise.resolve(), pending: 0, unsaved: false };
let viewer, before, brush, list, form, autosave;

function status(text, trouble = false) {
  $("saved").textContent = text;
  $("saved").classList.toggle("trouble", trouble);
}

function refuse(reason) {
  $("desk").hidden = true;
  $("refused").hidden = false;
  $("refused").textContent = reason;
}

const waiting = (tries, error) => status(`Not saved yet, trying again: ${error instanceof Refused ? error.message : "the desk does not answer"}`, true);

// One scan, read from the desk or ahead of time

const address = (details, layer) => scanPath(details.scan, `/volumes/${layer}?version=${details.version}`);

async function fetched(scan, asked = ask(scanPath(scan))) {
  const details = await asked;
  const first = details.layers.map(({ name }) => name).filter((name) => ["flair", "judged_mask"].includes(name));
  const images = await Promise.all(first.map(async (layer) => [layer, await readLayer(address(details, layer), layer)]));
  return { details, images: Object.fromEntries(images) };
}

// An address has only so much room; whoever skips more than this meets the first ones again.
const nextScan = async (passed) => (await ask(`/api/next?${passed.slice(0, 200).map((scan) => `after=${encodeURIComponent(scan)}`).join("&")}`)).scan;

async function lookAhead(current) {
  const scan = await nextScan([current, ...state.skipped, ...state.unseen].filter(Boolean));
  if (!scan) return { scan: null };
  const ready = fetched(scan);
  ready.catch(() => null); // It is asked for again when its turn comes.
  return { scan, ready };
}

let opening = 0;

async function open(scan, ready) {
  opening += 1;
  const turn = opening;
  if (!(await leave())) return;
  $("wait").textContent = "Reading …";
  try {
    const { details, images } = await (ready ?? fetched(scan));
    if (turn !== opening) return; // another scan was asked for meanwhile
    show(details, images);
    for (const layer of state.shown ?? []) if (!(layer in images) && details.layers.some(({ name }) => name === layer)) await switchLayer(layer, true);
    $("canvas").focus({ preventScroll: true });
    if (turn === opening && details.drawing?.state === "draft" && details.drawing.rater === state.me.rater) await startDrawing();
    if (turn === opening) state.ahead = lookAhead(scan).catch(() => null);
  } catch (error) {
    if (turn !== opening) return;
    $("wait").textContent = `${scan} cannot be shown: ${error.message}. Press n for the next one.`;
    // It must not be offered again and again.
    state.unseen.add(scan);
    state.ahead = lookAhead(state.details?.scan ?? "").catch(() => null);
  }
}

function show(details, images) {
  const first = details.places[0];
  viewer.open(images, state.shown ?? ["judged_mask"], first && [first.x, first.y, first.z]);
  form.open(details.scan, details.version, details.mine);
  state.details = details;
  $("wait").textContent = "";
  $("title").textContent = `${details.scan} – ${state.me.study}`;
  list.mark(details.scan);
  showVerdict(details);
  showPlaces(details.places, goToPlace);
  showCommands(details.commands);
  drawLayers();
  drawDrawing();
  hideBefore();
  state.place = first ? 0 : -1;
  markPlace(state.place);
  state.opened = performance.now();
  form.draw();
  document.body.dataset.scan = details.scan;
}

// What is drawn is sent before another scan is opened; where that fails, the drawing stays open.
async function leave() {
  if (!(await flushDraft())) return false;
  if (brush?.on) stopDrawing();
  return true;
}

async function next() {
  const ahead = await state.ahead;
  const passed = () => [state.details?.scan, ...state.skipped, ...state.unseen].filter(Boolean);
  let scan = ahead?.scan ?? (await nextScan(passed()));
  if (!scan && state.skipped.length) {
    state.skipped = [];
    status("Only those that you skipped are left");
    scan = await nextScan([...state.unseen]);
  }
  if (!scan) {
    status(state.unseen.size ? `Nothing is left for you but ${state.unseen.size} that cannot be shown.` : "Nothing is left for you. Thank you.");
    document.body.dataset.finished = "true";
    await showStanding(state.me);
    return;
  }
  await open(scan, ahead?.scan ? ahead.ready.catch(() => fetched(scan)) : undefined);
}

async function rate(said) {
  if (state.sending || !state.details) return;
  state.sending = true;
  form.send.disabled = true;
  const { scan, version } = state.details;
  const kept = form.place;
  const seconds = Math.min(86400, (performance.now() - state.opened) / 1000);
  try {
    if (!(await flushDraft())) return;
    await send("POST", scanPath(scan, "/rating"), { key: randomKey(), version, seconds, ...said }, waiting);
  } catch (error) {
    status(`Not saved: ${error.message}.`, true);
    return;
  } finally {
    state.sending = false;
    form.draw();
  }
  form.sent(kept);
  list.rated(scan, said.rating ?? `${said.score} of 5`);
  state.history.push(scan);
  state.skipped = state.skipped.filter((one) => one !== scan);
  status(`Saved: ${scan}`);
  showProgress();
  // Whoever went on by himself meanwhile stays there.
  if (state.details.scan === scan) await next().catch((error) => status(`Saved: ${scan}. The next scan does not come: ${error.message}. Press n to try again.`, true));
}

async function skip() {
  if (state.details && !state.skipped.includes(state.details.scan)) state.skipped.push(state.details.scan);
  await next().catch((error) => status(`The next scan does not come: ${error.message}.`, true));
}

async function undo() {
  const scan = state.history.pop() ?? state.details?.scan;
  if (!scan) return;
  const { taken_back: done } = await send("DELETE", scanPath(scan, "/rating"), undefined, waiting);
  list.rated(scan, null);
  status(done ? `Rating of ${scan} taken back` : "There is no rating of yours to take back");
  showProgress();
  await open(scan);
}

async function showProgress() {
  const told = await ask("/api/progress").catch(() => null);
  if (!told) return;
  const rest = told.standing && !told.standing.worth_it && told.standing.unseen ? ", another look is no longer needed" : "";
  $("progress").textContent = `${told.done} rated, ${told.left} left${rest}`;
}

// Layers and views

async function switchLayer(layer, on) {
  if (on && !(layer in viewer.images)) {
    $("wait").textContent = "Reading …";
    const { scan } = state.details;
    const image = await readLayer(address(state.details, layer), layer).catch((error) => status(`${layer} cannot be shown: ${error.message}`, true));
    $("wait").textContent = "";
    if (!image || scan !== state.details.scan) return;
    viewer.add(layer, image);
  }
  viewer.toggle(layer, on, brush.on);
  state.shown = new Set(viewer.shown);
  drawLayers();
}

// The corrected mask as it was saved last.
async function switchEdited(on) {
  const { drawing, scan } = state.details;
  if (brush.on || !drawing) return; // what is being drawn is shown already
  if (on) {
    const image = await readLayer(scanPath(scan, `/drawings/${drawing.id}`), "edited");
    if (scan !== state.details.scan || brush.on) return;
    viewer.add("edited", image);
    viewer.toggle("edited", true);
  } else viewer.toggle("edited", false);
  drawLayers();
}

const LAYER_KEYS = { t1: "t", judged_mask: "m", own_mask: "o", probability: "y", entropy: "i", missed: "l", false_positive: "f", numbers: "b" };

function drawLayers() {
  const layers = state.details.layers.filter(({ name }) => name !== "flair");
  const switches = layers.map(({ name, label }) => button(label, LAYER_KEYS[name], () => switchLayer(name, !viewer.shown.has(name)), { ariaPressed: String(viewer.shown.has(name)), className: `layer ${name}` }));
  if (state.details.drawing) switches.push(button("Corrected mask", "e", () => switchEdited(!viewer.shown.has("edited")), { ariaPressed: String(viewer.shown.has("edited")), className: "layer edited", disabled: brush.on }));
  const style = button(viewer.style === "outline" ? "Outline" : "Fill", "s", toggleStyle);
  const opacity = make("input", { type: "range", min: 10, max: 100, value: viewer.opacity * 100, oninput: (event) => viewer.setOpacity(event.target.value / 100) });
  const parts = [...switches, make("span", { className: "gap" }), style, make("label", {}, "Opacity ", opacity), button("Reset window", "w", () => viewer.resetWindow())];
  if (state.details.previous) parts.push(button("Previous visit", "z", toggleBefore, { ariaPressed: String(!$("stage-before").hidden) }));
  $("layers").replaceChildren(...parts);
}

function toggleStyle() {
  viewer.setStyle(viewer.style === "outline" ? "fill" : "outline");
  drawLayers();
}

function setView(view) {
  viewer.setView(view);
  drawTools();
}

function cycleView() {
  const names = Object.keys(VIEWS);
  setView(names[(names.indexOf(viewer.view) + 1) % names.length]);
}

function goToPlace(n) {
  const { places } = state.details;
  if (!places.length) return;
  state.place = (n + places.length) % places.length;
  const { x, y, z } = places[state.place];
  viewer.goTo(x, y, z);
  markPlace(state.place);
}

function hideBefore() {
  $("stage-before").hidden = true;
  viewer.nv.broadcastTo([], { "2d": true, "3d": true });
}

async function toggleBefore() {
  const shown = $("stage-before").hidden;
  hideBefore();
  if (shown) {
    $("stage-before").hidden = false;
    if (!before) {
      before = new Viewer($("canvas-before"));
      await before.attach();
    }
    const { details, images } = await fetched(state.details.previous.scan);
    before.open(images, ["judged_mask"]);
    $("before-name").textContent = `${details.scan} (at the same scanner coordinates, not registered)`;
    viewer.nv.broadcastTo([before.nv], { "2d": true, "3d": true });
    viewer.nv.sync();
  }
  drawLayers();
}

// Drawing

async function startDrawing() {
  const { drawing, scan } = state.details;
  $("wait").textContent = "Reading …";
  const mask = drawing ? await readLayer(scanPath(scan, `/drawings/${drawing.id}`), "edited") : viewer.images.judged_mask;
  const numbered = state.details.layers.some(({ name }) => name === "numbers") && !viewer.images.numbers;
  const numbers = numbered ? await readLayer(address(state.details, "numbers"), "numbers") : null;
  $("wait").textContent = "";
  if (scan !== state.details.scan || brush.on) return; // another scan is open by now
  if (numbers) viewer.add("numbers", numbers);
  if (viewer.view === "mosaic") setView("axial");
  viewer.shown.delete("edited");
  brush.start(mask);
  drawTools();
  drawLayers();
}

function stopDrawing() {
  brush.stop();
  drawTools();
  drawLayers();
}

function stroked() {
  state.unsaved = true;
  clearTimeout(autosave);
  autosave = setTimeout(flushDraft, AUTOSAVE_MS);
  drawTools();
}

// Each pause sends what is drawn as a draft, so that closing the browser loses nothing. False where it could not be kept.
async function flushDraft() {
  clearTimeout(autosave);
  if (!state.unsaved || !brush?.on) return true;
  return sendDrawing(true);
}

async function sendDrawing(draft) {
  const { scan, version } = state.details;
  state.unsaved = false;
  const content = await brush.packed();
  const path = scanPath(scan, `/drawing?version=${version}&draft=${draft}&key=${draft ? "" : randomKey()}`);
  state.saving = state.saving.catch(() => null).then(() => send("PUT", path, content, waiting));
  state.pending += 1;
  try {
    const drawing = await state.saving;
    if (state.details.scan === scan) state.details.drawing = drawing;
    status(draft ? "Drawing kept as a draft" : "Corrected mask saved; it is judged again");
    drawDrawing();
    return true;
  } catch (error) {
    state.unsaved = true;
    status(`Drawing not saved, it stays open: ${error.message}.`, true);
    return false;
  } finally {
    state.pending -= 1;
  }
}

async function saveDrawing() {
  if (!brush.on) return;
  clearTimeout(autosave);
  if (!(await sendDrawing(false))) return;
  stopDrawing();
  await switchEdited(true);
}

async function takeBackDrawing() {
  const { scan } = state.details;
  if (brush.on) {
    state.unsaved = false;
    clearTimeout(autosave);
    stopDrawing();
  }
  state.details.drawing = await send("DELETE", scanPath(scan, "/drawing"), undefined, waiting);
  status("Drawing taken back");
  viewer.toggle("edited", false);
  drawLayers();
  drawDrawing();
}

async function watchJudging(scan) {
  while (state.details.scan === scan && state.details.drawing?.state === "waiting") {
    await new Promise((done) => setTimeout(done, 1000));
    const drawing = await ask(scanPath(scan, "/drawing")).catch(() => null);
    if (drawing && state.details.scan === scan) {
      state.details.drawing = drawing;
      drawDrawing();
    }
  }
}

function drawDrawing() {
  const { drawing } = state.details;
  const parts = [make("h2", {}, "Corrected mask ", make("kbd", {}, "d"))];
  if (!drawing) parts.push(make("p", { className: "soft" }, "None yet. Drawing starts from the judged mask, which stays as it is."));
  else {
    const words = { draft: "a draft, not saved as a correction yet", waiting: "being judged again …", done: "judged again", failed: `not judged again: ${drawing.result.reason}` };
    parts.push(make("p", {}, `By ${drawing.rater}: ${drawing.volume_ml.toFixed(2)} ml, Dice with the judged mask ${drawing.dice.toFixed(3)}; ${words[drawing.state]}.`));
    if (drawing.result.verdict) parts.push(make("p", { className: drawing.result.verdict }, `The corrected mask: ${drawing.result.verdict}, predicted Dice ${drawing.result.predicted_dice.toFixed(2)}`));
    if (drawing.rater === state.me.rater) parts.push(button("Take it back", "", takeBackDrawing));
  }
  $("drawing").replaceChildren(...parts);
  $("drawing").dataset.state = drawing?.state ?? "none";
  if (drawing?.state === "waiting") watchJudgingOnce(state.details.scan);
}

let watched = null;
function watchJudgingOnce(scan) {
  if (watched === scan) return;
  watched = scan;
  watchJudging(scan).finally(() => { watched = null; });
}

function drawTools() {
  const views = Object.entries(VIEWS).map(([view, label]) => button(label, "", () => setView(view), { ariaPressed: String(viewer.view === view) }));
  const parts = [...views, make("span", { className: "gap" })];
  if (!brush.on) parts.push(button("Correct the mask", "d", startDrawing));
  else {
    const keys = { brush: "b", erase: "x", lesion: "l", grow: "g" };
    for (const [tool, label] of Object.entries(TOOLS)) parts.push(button(label, keys[tool], () => setTool(tool), { ariaPressed: String(brush.tool === tool) }));
    const size = make("input", { type: "range", min: 1, max: 12, step: 0.5, value: brush.radius, oninput: (event) => { brush.radius = Number(event.target.value); } });
    parts.push(make("label", {}, "Radius [ ] ", size), button("Through slices", "q", () => { brush.through = !brush.through; drawTools(); }, { ariaPressed: String(brush.through) }));
    parts.push(button("Undo stroke", "Ctrl Z", () => brush.undo(), { disabled: !brush.strokes.length }), button("Save correction", "Ctrl S", saveDrawing), button("Stop", "d", leave));
  }
  $("tools").replaceChildren(...parts);
}

function setTool(tool) {
  brush.tool = tool;
  drawTools();
}

function resize(change) {
  brush.radius = Math.min(12, Math.max(1, brush.radius + change));
  drawTools();
}

// Keys

const HELP = {
  Rating: { "1 2 3": "accept, needs edit, reject (1 to 5 where the study is rated so)", "Shift 1 to 6": "reasons", c: "comment (Esc leaves it, Ctrl Enter saves)", Enter: "save and go to the next scan", n: "skip", u: "take the last rating back" },
  Looking: { "j k": "next and previous doubtful place", "arrow keys": "move the crosshair", "Page up and down": "through the slices", v: "next view", "t m o y i l f b e": "switch layers", s: "outline or fill", "< >": "opacity", "+ −": "brighter, darker", w: "reset the window", "right mouse button": "window by dragging a box", z: "previous visit" },
  Drawing: { d: "start and stop", b: "brush", x: "eraser", l: "a whole lesion on or off", g: "grow over voxels as bright", "[ ]": "size", q: "through slices or in one", Space: "use the tool at the crosshair", "Ctrl Z": "undo a stroke", "Ctrl S": "save the correction" },
  Desk: { a: "list of scans", p: "progress and agreement", "?": "this help" },
};

const MOVES = { ArrowLeft: [-1, 0, 0], ArrowRight: [1, 0, 0], ArrowUp: [0, 1, 0], ArrowDown: [0, -1, 0] };

// Both sides of the picture are mirrored in the radiological way, so the arrows follow the picture.
function move(key) {
  const [x, y] = MOVES[key];
  if (viewer.view === "sagittal") viewer.move(0, -x, y);
  else if (viewer.view === "coronal") viewer.move(-x, 0, y);
  else viewer.move(-x, y, 0);
}

const ALWAYS = {
  Enter: () => form.trySubmit(), n: skip, u: undo, j: () => goToPlace(state.place + 1), k: () => goToPlace(state.place - 1), v: cycleView, s: toggleStyle, w: () => viewer.resetWindow(),
  z: () => state.details.previous && toggleBefore(), "+": () => viewer.window(1), "-": () => viewer.window(-1), "<": () => changeOpacity(-0.1), ">": () => changeOpacity(0.1), c: () => form.comment.focus(),
  PageUp: () => viewer.step(1), PageDown: () => viewer.step(-1), a: () => showList(true), p: () => showStanding(state.me), "?": () => $("help").showModal(), d: () => (brush.on ? leave() : startDrawing()), e: () => state.details.drawing && !brush.on && switchEdited(!viewer.shown.has("edited")),
};
const DRAWING = { b: () => setTool("brush"), x: () => setTool("erase"), l: () => setTool("lesion"), g: () => setTool("grow"), "[": () => resize(-0.5), "]": () => resize(0.5), q: () => { brush.through = !brush.through; drawTools(); }, " ": () => brush.useAtCrosshair() };

function changeOpacity(by) {
  viewer.setOpacity(viewer.opacity + by);
  drawLayers();
}

function pressed(event) {
  if ($("help").open || $("standing").open || (!state.details && !["n", "?", "a", "p"].includes(event.key))) return;
  const typing = event.target.matches?.("textarea, input:not([type=range]), select");
  if (typing) {
    if (event.key === "Escape") $("canvas").focus();
    if (event.key === "Enter" && event.ctrlKey) form.trySubmit();
    return;
  }
  const onButton = event.target.matches?.("button, summary, a") && [" ", "Enter"].includes(event.key);
  if (onButton || event.altKey || event.metaKey) return;
  const act = event.ctrlKey ? { z: () => brush.on && brush.undo(), s: saveDrawing, Enter: () => form.trySubmit() }[event.key.toLowerCase()] : wanted(event);
  if (!act) return;
  event.preventDefault();
  event.stopPropagation();
  act();
}

function wanted(event) {
  const digit = /^Digit([1-9])$/.exec(event.code)?.[1];
  if (digit && event.shiftKey) return digit <= state.me.reasons.length ? () => form.toggle(digit - 1) : null;
  if (digit || /^[1-9]$/.test(event.key)) return (digit ?? event.key) <= form.choices.length ? () => form.choose((digit ?? event.key) - 1) : null;
  if (event.key in MOVES) return () => move(event.key);
  if (brush.on && event.key in DRAWING) return DRAWING[event.key];
  const layer = Object.entries(LAYER_KEYS).find(([name, key]) => key === event.key && state.details.layers.some((one) => one.name === name))?.[0];
  if (layer) return () => switchLayer(layer, !viewer.shown.has(layer));
  return ALWAYS[event.key];
}

function showList(focus) {
  const shown = $("list").classList.toggle("shown");
  $("show-list").setAttribute("aria-expanded", String(shown));
  if (focus) $("find").focus();
}

function drawHelp() {
  $("help-keys").replaceChildren(...Object.entries(HELP).flatMap(([title, keys]) => [make("h2", {}, title), make("dl", {}, ...Object.entries(keys).flatMap(([key, meaning]) => [make("dt", {}, make("kbd", {}, key)), make("dd", {}, meaning)]))]));
}

async function start() {
  // The key in the address has become a cookie: it need not stand there for others to read.
  if (location.search) history.replaceState(null, "", "/");
  try {
    state.me = await ask("/api/me");
  } catch (error) {
    refuse(error.status === 401 ? "This desk needs your personal link: open the one that veridice review printed for you." : `The desk does not answer: ${error.message}.`);
    return;
  }
  $("desk").hidden = false;
  // The first scan is on its way while the viewer starts, which leaves no time for anything else.
  const rows = ask("/api/scans");
  const scan = await nextScan([]).catch(() => null);
  if (scan) {
    const asked = ask(scanPath(scan));
    const ready = fetched(scan, asked);
    ready.catch(() => null); // It is asked for again when its turn comes.
    state.ahead = { scan, ready };
    await asked.catch(() => null);
  }
  list = new ScanList((chosen) => { $("list").classList.remove("shown"); if (form) open(chosen); });
  list.set(await rows);
  await new Promise((done) => setTimeout(done)); // The list is seen before the viewer starts.
  viewer = new Viewer($("canvas"));
  await viewer.attach();
  brush = new Brush(viewer, $("stage"), () => viewer.images.numbers, stroked);
  viewer.onMove((mm, value) => { $("where").textContent = `x ${mm[0].toFixed(0)}  y ${mm[1].toFixed(0)}  z ${mm[2].toFixed(0)} mm   ${Number(value).toPrecision(4)}`; });
  form = new RatingForm(state.me, { submit: rate, skip, undo });
  drawTools();
  drawHelp();
  document.addEventListener("keydown", pressed, true);
  // NiiVue has keys of its own.
  for (const kind of ["keydown", "keyup"]) $("stage").addEventListener(kind, (event) => event.stopPropagation(), true);
  $("show-help").onclick = () => $("help").showModal();
  $("show-standing").onclick = () => showStanding(state.me);
  $("show-list").onclick = () => showList(false);
  addEventListener("beforeunload", (event) => { if (state.unsaved || state.pending || state.sending) event.preventDefault(); });
  addEventListener("visibilitychange", () => { if (document.hidden) flushDraft(); });
  await next();
  showProgress();
  const shown = list.all.find(({ status: state_ }) => state_ === "done");
  if (!state.details && shown) await open(shown.scan);
  document.body.dataset.ready = "true";
}

// For scripts that test the desk.
window.veridice = { open, startDrawing, saveDrawing, get viewer() { return viewer; }, get brush() { return brush; }, get list() { return list; } };
start();
