"use strict";
// What is shown: filters, order and the lit scan. The list and the plots draw from here; texts only ever become textContent.

const study = JSON.parse(document.getElementById("study").textContent);
const WORDS = { accept: "Accept", review: "Review", reject: "Reject", failed: "Failed", none: "No verdict" };
const SIGNS = { accept: "●", review: "▲", reject: "■", failed: "✕", none: "◆" };

const state = {
  search: "",
  verdicts: new Set(),
  choices: new Map(),
  ranges: new Map(), // key of a plot (or "form") -> {measure, low, high}
  first: null, // only this many from the top of the worklist
  limits: null, // {dice, level}: only what other limits would accept
  sort: { column: "rank", down: false },
  current: -1, // the scan that the keyboard stands on
  hovered: -1,
  passing: null, // the same rows whatever their order, to tell whether the plots change
  shown: [], // indices of the rows that pass, in the order of the list
};
const passes = new Uint8Array(study.count);
const listeners = { filtered: [], lit: [] };

const byId = (id) => document.getElementById(id);
const litScan = () => (state.hovered >= 0 ? state.hovered : state.current);

function cell(name, row) {
  const column = study.table[name];
  return column === undefined ? null : column[row];
}

function measureOf(name, row) {
  return name === "time" ? study.times[row] : cell(name, row);
}

const haystack = Array.from({ length: study.count }, (_, row) =>
  ["scan", "participant_id", "session_id", "warnings", "reason", "site", "scanner", "judged_mask"]
    .map((name) => cell(name, row))
    .filter((value) => value !== null)
    .join(" ")
    .toLowerCase(),
);

function fits(row, words, ranges) {
  if (state.first !== null && row >= state.first) return false;
  if (state.limits && !acceptedAt(state.limits, row)) return false;
  if (state.verdicts.size && !state.verdicts.has(study.state[row])) return false;
  for (const [name, choice] of state.choices) {
    if (choice !== "" && String(cell(name, row)) !== choice) return false;
  }
  for (const { measure, low, high } of ranges) {
    const value = measureOf(measure, row);
    if (value === null || value < low || value > high) return false;
  }
  return words.every((word) => haystack[row].includes(word));
}

const collator = new Intl.Collator("en", { numeric: true });

const WORST_FIRST = ["failed", "reject", "review", "accept", "none"];

function compare(column, down) {
  const values = column === "verdict" ? study.state.map((verdict) => WORST_FIRST.indexOf(verdict)) : study.table[column] || [];
  const sign = down ? -1 : 1;
  return (a, b) => {
    const left = values[a] ?? null;
    const right = values[b] ?? null;
    if (left === null || right === null) return (left === null) - (right === null) || a - b;
    const order = typeof left === "number" && typeof right === "number" ? left - right : collator.compare(left, right);
    return sign * order || a - b;
  };
}

function refresh() {
  const words = state.search.toLowerCase().split(/\s+/).filter(Boolean);
  const ranges = [...state.ranges.values()];
  const before = state.passing;
  state.shown = [];
  for (let row = 0; row < study.count; row++) {
    passes[row] = fits(row, words, ranges) ? 1 : 0;
    if (passes[row]) state.shown.push(row);
  }
  state.passing = state.shown.join();
  // Rows stand in the worklist's order already.
  if (state.sort.column !== "rank") state.shown.sort(compare(state.sort.column, state.sort.down));
  else if (state.sort.down) state.shown.reverse();
  if (state.current >= 0 && !passes[state.current]) state.current = -1;
  if (words.length && state.shown.length === 1) state.current = state.shown[0];
  document.body.dataset.shown = String(state.shown.length);
  listeners.filtered.forEach((listener) => listener(before !== state.passing));
  light();
}

function light() {
  const row = litScan();
  document.body.dataset.lit = row < 0 ? "" : String(cell("scan", row));
  listeners.lit.forEach((listener) => listener(row));
}

function hover(row) {
  if (row === state.hovered) return;
  state.hovered = row;
  light();
}

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function number(value, digits = 2) {
  if (value === null || value === undefined) return "–";
  return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits }).replace("-", "−");
}

function compact(measure, value) {
  if (measure === "time") return new Date(value).toISOString().slice(0, 10);
  if (value === null) return "–";
  return Math.abs(value) >= 1000 ? number(value, 0) : String(Number(value.toPrecision(3))).replace("-", "−");
}

// ---- Files to save ----

const PLAIN_NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/;

function tsvCell(value) {
  if (value === null || value === "") return "n/a";
  const text = String(value);
  // A spreadsheet would run such a cell as a formula.
  const risky = /^[=+\-@\t\r\n]/.test(text) && !PLAIN_NUMBER.test(text);
  return (risky ? "'" : "") + text.replace(/[\t\r\n]+/g, " ");
}

function tableAsTsv(rows) {
  const lines = rows.map((row) => study.columns.map((name) => tsvCell(cell(name, row))).join("\t"));
  return [study.columns.map(tsvCell).join("\t"), ...lines].join("\n") + "\n";
}

function bidsFilter(rows) {
  const distinct = (name, prefix) => {
    const values = rows.map((row) => cell(name, row)).filter((value) => value !== null);
    return [...new Set(values.map((value) => String(value).replace(new RegExp(`^${prefix}-`), "")))];
  };
  const query = { subject: distinct("participant_id", "sub") };
  if (rows.length && rows.every((row) => cell("session_id", row) !== null)) query.session = distinct("session_id", "ses");
  return { flair: query };
}

/** Scans that a BIDS filter selects besides: it knows people and sessions, not their pairs. */
function besides(rows) {
  const { subject, session } = bidsFilter(rows).flair;
  const subjects = new Set(subject);
  const sessions = session && new Set(session);
  let selected = 0;
  for (let row = 0; row < study.count; row++) {
    const name = String(cell("participant_id", row)).replace(/^sub-/, "");
    const visit = String(cell("session_id", row)).replace(/^ses-/, "");
    if (subjects.has(name) && (!sessions || sessions.has(visit))) selected++;
  }
  return selected - rows.length;
}

function save(name, type, content) {
  const address = URL.createObjectURL(new Blob([content], { type }));
  const link = element("a");
  link.href = address;
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}
