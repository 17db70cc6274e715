// What stands beside the picture. Texts of a study are set as text and never as HTML.
"use strict";
import { ask } from "./api.js";

export const $ = (id) => document.getElementById(id);

export function make(kind, properties = {}, ...inside) {
  const element = document.createElement(kind);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("aria") || name === "role" || name === "title") element.setAttribute(name.replace("aria", "aria-").toLowerCase(), value);
    else element[name] = value;
  }
  element.append(...inside.filter((part) => part !== null && part !== undefined && part !== ""));
  return element;
}

export const count = (number_, what) => `${number_} ${what}${number_ === 1 ? "" : "s"}`;
export const percent = (share, digits = 0) => `${(100 * share).toFixed(digits)} %`;
const key = (name) => make("kbd", {}, name);
export const button = (text, shortcut, act, more = {}) => make("button", { type: "button", onclick: act, ...more }, text, shortcut ? " " : "", shortcut ? key(shortcut) : "");

// The list of scans. Only the rows in sight are there, so that ten thousand are no more work than ten.
const HEIGHT = 52;

export class ScanList {
  constructor(choose) {
    this.choose = choose;
    this.rows = [];
    this.current = null;
    $("rows").addEventListener("scroll", () => this.draw());
    $("find").addEventListener("input", () => this.filter());
    $("which").addEventListener("change", () => this.filter());
    new ResizeObserver(() => this.draw()).observe($("rows"));
  }

  set(rows) {
    this.all = rows;
    this.filter();
  }

  rated(scan, rating) {
    const row = this.all.find((one) => one.scan === scan);
    if (row) row.mine = rating;
    this.draw();
  }

  filter() {
    const [text, which] = [$("find").value.trim().toLowerCase(), $("which").value];
    const wanted = { "": () => true, open: (row) => !row.mine && row.status === "done", done: (row) => row.mine, failed: (row) => row.status !== "done" }[which];
    this.rows = this.all.filter((row) => wanted(row) && `${row.scan} ${row.site ?? ""}`.toLowerCase().includes(text));
    $("rows-room").style.height = `${this.rows.length * HEIGHT}px`;
    this.draw();
  }

  mark(scan) {
    this.current = scan;
    const place = this.rows.findIndex((row) => row.scan === scan);
    const box = $("rows");
    if (place >= 0 && (place * HEIGHT < box.scrollTop || (place + 1) * HEIGHT > box.scrollTop + box.clientHeight)) box.scrollTop = Math.max(0, place * HEIGHT - box.clientHeight / 3);
    this.draw();
  }

  draw() {
    const box = $("rows");
    const first = Math.max(0, Math.floor(box.scrollTop / HEIGHT) - 3);
    const last = Math.min(this.rows.length, Math.ceil((box.scrollTop + box.clientHeight) / HEIGHT) + 3);
    const held = document.activeElement?.dataset?.scan;
    $("rows-room").replaceChildren(...this.rows.slice(first, last).map((row, n) => this.row(row, first + n)));
    if (held) $("rows-room").querySelector(`[data-scan="${CSS.escape(held)}"]`)?.focus({ preventScroll: true });
  }

  row(row, place) {
    const said = row.status !== "done" ? row.reason || "not judged" : [row.verdict && `${row.verdict} ${row.predicted_dice.toFixed(2)}`, row.mine && `me: ${row.mine}`, row.edited && "edited"].filter(Boolean).join(" · ") || "not rated yet";
    const made = button(make("b", {}, row.scan), "", () => this.choose(row.scan), { className: "row", disabled: row.status !== "done" });
    made.append(make("span", {}, said));
    made.dataset.scan = row.scan;
    made.title = said;
    made.style.top = `${place * HEIGHT}px`;
    if (row.scan === this.current) made.setAttribute("aria-current", "true");
    return make("div", { role: "listitem" }, made);
  }
}

export function showVerdict(details) {
  const parts = [];
  if (details.changed.length) parts.push(make("p", { className: "reject" }, `Changed since it was judged: ${details.changed.join(", ")}. Run veridice run again before you trust what is said here.`));
  if (details.verdict) {
    const interval = details.interval ? ` (${details.interval[0].toFixed(2)} to ${details.interval[1].toFixed(2)})` : "";
    parts.push(make("p", { className: `word ${details.verdict}` }, details.verdict[0].toUpperCase() + details.verdict.slice(1)));
    parts.push(make("p", {}, `Predicted Dice ${details.predicted_dice.toFixed(2)}${interval}. Chance of a bad mask ${percent(details.chance)}. ${details.volume_ml.toFixed(1)} ml.`));
    if (details.why) parts.push(make("p", { className: "soft" }, details.why));
    if (details.warnings.length) parts.push(make("details", {}, make("summary", {}, `${count(details.warnings.length, "thing")} to know`), make("ul", {}, ...details.warnings.map((text) => make("li", {}, `${text}.`)), details.promise && make("li", {}, details.promise))));
  } else {
    parts.push(make("p", { className: "soft" }, "This study is rated blind: what veridice and others said of the mask is hidden."));
  }
  for (const other of details.others ?? []) parts.push(make("p", {}, make("b", {}, `${other.rater}: `), `${other.score ? `${other.score} of 5, ` : ""}${other.rating}${other.reasons.length ? ` (${other.reasons.join(", ")})` : ""}${other.comment ? `: ${other.comment}` : ""}`));
  $("verdict").replaceChildren(...parts);
}

export function showPlaces(places, choose) {
  const list = make("ol");
  places.forEach((place, n) => {
    const what = place.place === "mask" ? "marked" : "looks missed";
    const where = place.region ? `, ${place.region.replace("_", " ")}` : "";
    list.append(make("li", {}, make("button", { type: "button", onclick: () => choose(n) }, make("span", {}, `${Math.round(place.number)} ${what}${where}`), make("span", { className: "soft" }, `${place.volume_ml.toFixed(2)} ml${place.confidence === null ? "" : ` · lesion ${percent(place.confidence)}`}`))));
  });
  const blind = places.some((place) => place.confidence === null);
  const title = make("h2", {}, blind ? "Lesions " : "Doubtful places ", key("j"), " ", key("k"));
  $("places").replaceChildren(title, places.length ? list : make("p", { className: "soft" }, "No single lesions are listed."));
}

export function markPlace(n) {
  const list = $("places").querySelector("ol");
  [...(list?.children ?? [])].forEach((row, place) => {
    if (place === n) row.firstChild.setAttribute("aria-current", "true");
    else row.firstChild.removeAttribute("aria-current");
  });
  // Not scrollIntoView, which would move the whole page on a phone.
  const row = list?.children[n];
  if (row) list.scrollTop = row.offsetTop - list.offsetTop - list.clientHeight / 2;
}

export function showCommands(commands) {
  const rows = Object.entries(commands).flatMap(([name, line]) => [
    make("div", {}, make("b", {}, name), " ", button("Copy", "", (event) => navigator.clipboard.writeText(line).then(() => { event.target.textContent = "Copied"; }, () => { event.target.textContent = "Select it below"; }))),
    make("code", {}, line),
  ]);
  $("elsewhere").replaceChildren(make("details", {}, make("summary", {}, "In another viewer"), make("p", { className: "soft" }, "Run it in the study's folder."), ...rows));
}

const number = (value, digits = 2) => (value === null || value === undefined ? "–" : value.toFixed(digits));

export async function showStanding(me) {
  const told = await ask("/api/progress");
  const parts = [make("p", {}, `You rated ${count(told.done, "scan")}; ${told.left || "none"} left for you${told.pace && told.left ? `, at ${told.pace.toFixed(0)} s a scan about ${count(Math.ceil((told.left * told.pace) / 60), "minute")}` : ""}.`)];
  if (told.standing) parts.push(...standing(told.standing));
  $("standing-text").replaceChildren(...parts);
  if (!$("standing").open) $("standing").showModal();
  if (me.several && !me.blind) $("standing-text").append(...agreed(await ask("/api/agreement")));
}

function standing(now) {
  const parts = [make("p", {}, `Looked at: ${count(now.seen, "mask")}, of which ${now.bad} bad (they need edits or are rejected). Not looked at: ${now.unseen}, of which ${now.expected_bad.toFixed(1)} are expected to be bad.`)];
  parts.push(make("p", {}, now.up_to_date ? "These chances take the ratings of this study into account." : "There are too few ratings of good and of bad masks yet to change the chances: they are those of the calibration."));
  if (now.at_most !== null && now.unseen) parts.push(make("p", {}, `With 95 % confidence at most ${now.at_most} of those ${now.unseen} are bad, however they were chosen.`));
  const wanted = percent(now.max_bad, now.max_bad < 0.1 ? 1 : 0);
  const words = !now.unseen ? "Every mask has been looked at." : now.worth_it ? `Another look is worth it: that at most ${wanted} of the unseen masks are bad cannot be promised yet.` : `Another look is no longer needed: of the unseen masks at most ${percent(now.bad_share, 1)} are expected to be bad, within the ${wanted} that this study allows.`;
  parts.push(make("p", { className: now.worth_it ? "needs-edit" : "accept" }, make("b", {}, words)), make("p", { className: "soft" }, "All of this is for scans and masks like those of the calibration set."));
  return parts;
}

function agreed(told) {
  const rows = told.cohen.map((pair) => make("tr", {}, make("td", {}, `${pair.first} and ${pair.second}`), make("td", {}, `${pair.scans}`), make("td", {}, number(pair.kappa)), make("td", {}, number(pair.weighted))));
  const head = make("tr", {}, ...["Raters", "Scans", "Cohen's kappa", "weighted"].map((text) => make("th", { scope: "col" }, text)));
  const parts = [make("h2", {}, "Agreement"), make("p", {}, `Read by several raters: ${count(told.scans, "scan")}, ${told.differ.length} of them differently. Fleiss' kappa ${number(told.fleiss)}, Krippendorff's alpha (ordinal) ${number(told.alpha)}.`)];
  if (rows.length) parts.push(make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows)));
  if (told.differ.length) parts.push(make("p", {}, "They differ on: ", ...told.differ.slice(0, 30).flatMap((scan) => [`${scan} (${Object.entries(told.readings[scan]).map(([rater, value]) => `${rater} ${value}`).join(", ")})`, make("br")])));
  return parts;
}
