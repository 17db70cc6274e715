// The worklist: only the rows in sight exist, so that thousands stay fluid.

const ROW_HEIGHT = 79; // with its border, as in the style sheet
const PRINTED = 300;
const scrollBox = byId("scroll");
const body = byId("body");
let printing = false;
let drawn = { from: -1, to: -1 };

const NEEDED = study.minDice ?? "the one needed";
const DICE_MEANING = "With its interval; dashed: the Dice that is needed";
const CHANCE_MEANING = `Chance that the true Dice is below ${NEEDED}`;
const GAIN_MEANING = `How far the Dice is expected to fall short of ${NEEDED}, on average over what it may be`;
const VOLUME_MEANING = "Of the judged mask; below it what looks missed outside it";
const LARGEST_FIRST = ["failure_probability", "expected_gain", "lesion_volume_ml"];

const COLUMNS = [
  { name: "rank", title: "#", width: 46, fill: fillRank, meaning: "Place in the worklist: 1 is most worth a look" },
  { name: null, title: "Judged mask", width: 194, fill: fillImage },
  { name: "scan", title: "Scan", width: null, fill: fillScan },
  { name: "verdict", title: "Verdict", width: 92, fill: fillVerdict },
  { name: "predicted_dice", title: "Predicted Dice", width: 132, fill: fillDice, meaning: DICE_MEANING },
  { name: "failure_probability", title: "Chance it is bad", width: 84, right: true, fill: fillChance, meaning: CHANCE_MEANING },
  { name: "expected_gain", title: "Expected gain", width: 84, right: true, fill: fillGain, meaning: GAIN_MEANING },
  { name: "lesion_volume_ml", title: "Mask volume", width: 104, right: true, fill: fillVolume, meaning: VOLUME_MEANING },
];

function fillRank(td, row) {
  td.className = "number";
  td.textContent = number(cell("rank", row), 0);
}

function picture(row, lazy) {
  const image = element("img");
  image.alt = "";
  if (lazy) image.loading = "lazy";
  image.src = study.images[row];
  return image;
}

function fillImage(td, row) {
  if (!study.images[row]) td.append(element("div", "blank", study.state[row] === "failed" ? "nothing to show" : "no picture"));
  else td.append(picture(row, !printing));
}

function reportLink(row, text) {
  const link = study.links[row] ? element("a", "name clamp", text) : element("span", "name clamp", text);
  if (study.links[row]) {
    link.href = study.links[row];
    link.target = "_blank";
    link.rel = "noopener";
    link.title = `${text}: open its report`;
  }
  return link;
}

function fillScan(cellOfRow, row) {
  const td = element("div", "fit");
  cellOfRow.append(td);
  td.append(reportLink(row, String(cell("scan", row))));
  const mask = cell("judged_mask", row);
  const place = [cell("site", row), cell("scanner", row), mask && mask !== "own" ? `mask: ${mask}` : null];
  const remarks = [study.state[row] === "failed" ? cell("reason", row) || "no reason is known" : null, cell("warnings", row)];
  if (cell("known", row) === false) remarks.unshift("unlike the scans that the models know");
  const said = remarks.filter(Boolean).join("; ");
  if (said) td.append(remark(said, study.state[row] === "failed"));
  const where = place.filter(Boolean).join(" · ");
  if (where) td.append(element("div", "small clamp", where));
}

function remark(text, failed) {
  const made = element("div", "small clamp", `${failed ? "✕" : "⚠"} ${text}`);
  made.title = text;
  return made;
}

function fillVerdict(td, row) {
  const verdict = study.state[row];
  const sign = element("span", `sign ${verdict}`);
  const shape = element("span", "", SIGNS[verdict]);
  shape.setAttribute("aria-hidden", "true");
  sign.append(shape, ` ${WORDS[verdict]}`);
  td.append(sign);
  if (cell("rating", row)) td.append(element("div", "small", `rated: ${cell("rating", row)}`));
}

function fillDice(td, row) {
  const dice = cell("predicted_dice", row);
  if (dice === null) return void td.append("–");
  const [low, high] = [cell("interval_low", row), cell("interval_high", row)];
  td.append(element("strong", "", number(dice)));
  if (low === null || high === null) return;
  td.append(element("span", "small", `  ${number(low)} to ${number(high)}`));
  const track = element("div", "track");
  track.setAttribute("aria-hidden", "true");
  const percent = (value) => `${100 * Math.min(1, Math.max(0, value))}%`;
  const band = element("span", "band");
  band.style.left = percent(low);
  band.style.width = percent(high - low);
  track.append(band);
  const ends = [["bar", study.minDice], [`dot ${study.state[row]}`, dice]];
  for (const [name, value] of ends.filter((end) => end[1] !== null)) {
    const tick = element("span", name);
    tick.style.left = percent(value);
    track.append(tick);
  }
  td.append(track);
}

function fillChance(td, row) {
  const chance = cell("failure_probability", row);
  if (chance === null) td.textContent = "–";
  else if (chance > 0 && chance < 0.01) td.textContent = "< 1 %";
  else if (chance < 1 && chance > 0.99) td.textContent = "> 99 %";
  else td.textContent = `${number(100 * chance, 0)} %`;
}

function fillGain(td, row) {
  const gain = cell("expected_gain", row);
  td.textContent = gain > 0 && gain < 0.001 ? "< 0.001" : number(gain, 3);
}

function fillVolume(td, row) {
  const volume = cell("lesion_volume_ml", row);
  td.append(volume === null ? "–" : `${number(volume, 1)} ml`);
  const missed = cell("looks_missed_ml", row);
  if (missed >= 0.05) td.append(element("div", "small", `+ ${number(missed, 1)} ml missed?`));
}

function buildHead() {
  for (const column of COLUMNS) {
    const th = element("th", column.right ? "right" : "");
    th.scope = "col";
    if (column.width) th.style.width = `${column.width}px`;
    if (column.name) {
      const button = element("button", "", column.title);
      button.type = "button";
      if (column.meaning) button.title = column.meaning;
      button.addEventListener("click", () => sortBy(column.name));
      th.append(button);
      th.dataset.column = column.name;
    } else th.append(element("span", "", column.title));
    byId("head").append(th);
  }
  showOrder();
}

function sortBy(column) {
  // What is most telling first: a low Dice, a high chance.
  const down = state.sort.column === column ? !state.sort.down : LARGEST_FIRST.includes(column);
  state.sort = { column, down };
  showOrder();
  scrollBox.scrollTop = 0;
  refresh();
}

function showOrder() {
  for (const th of byId("head").children) {
    const sorted = th.dataset.column === state.sort.column;
    th.ariaSort = sorted ? (state.sort.down ? "descending" : "ascending") : "none";
    const button = th.querySelector("button");
    const title = COLUMNS.find((column) => column.name && column.name === th.dataset.column)?.title;
    if (button) button.textContent = title + (sorted ? (state.sort.down ? " ↓" : " ↑") : "");
  }
}

function buildRow(place) {
  const row = state.shown[place];
  const tr = element("tr");
  tr.dataset.row = String(row);
  tr.tabIndex = -1;
  tr.setAttribute("aria-rowindex", String(place + 2));
  for (const column of COLUMNS) {
    const td = element("td", column.right ? "number" : "");
    column.fill(td, row);
    tr.append(td);
  }
  return tr;
}

function space(rows) {
  const tr = element("tr", "space");
  tr.setAttribute("aria-hidden", "true");
  const td = element("td");
  td.colSpan = COLUMNS.length;
  td.style.height = `${rows * ROW_HEIGHT}px`;
  tr.append(td);
  return tr;
}

function drawRows(force) {
  const count = state.shown.length;
  const above = Math.floor(scrollBox.scrollTop / ROW_HEIGHT);
  const from = printing ? 0 : Math.max(0, Math.min(above - 4, count - 1));
  const to = printing ? Math.min(count, PRINTED) : Math.min(count, above + Math.ceil(innerHeight / ROW_HEIGHT) + 4);
  if (!force && from === drawn.from && to === drawn.to) return;
  drawn = { from, to };
  const focused = body.contains(document.activeElement);
  const rows = [];
  if (from > 0) rows.push(space(from));
  for (let place = from; place < to; place++) rows.push(buildRow(place));
  if (count > to && !printing) rows.push(space(count - to));
  body.replaceChildren(...rows);
  markRows(litScan());
  // The row that held the focus was made anew, or has gone out of sight.
  if (focused) (rowElement(state.current) || scrollBox).focus({ preventScroll: true });
}

function rowElement(row) {
  return row < 0 ? null : body.querySelector(`tr[data-row="${row}"]`);
}

function markRows(row) {
  for (const tr of body.querySelectorAll("tr.lit, tr[aria-current]")) {
    tr.classList.remove("lit");
    tr.removeAttribute("aria-current");
  }
  rowElement(row)?.classList.add("lit");
  rowElement(state.current)?.setAttribute("aria-current", "true");
}

function bringIntoSight(row) {
  const place = state.shown.indexOf(row);
  if (place < 0) return;
  const head = byId("head").offsetHeight;
  const top = place * ROW_HEIGHT;
  const least = top + ROW_HEIGHT + head - scrollBox.clientHeight;
  if (top < scrollBox.scrollTop) scrollBox.scrollTop = top;
  else if (least > scrollBox.scrollTop) scrollBox.scrollTop = least;
  drawRows(false);
}

function goTo(row, focus) {
  state.current = row;
  state.hovered = -1;
  bringIntoSight(row);
  light();
  if (focus) rowElement(row)?.focus({ preventScroll: true });
}

function move(step) {
  if (!state.shown.length) return;
  const place = state.shown.indexOf(state.current);
  const last = state.shown.length - 1;
  const next = place < 0 && step < 0 ? last : place < 0 ? 0 : place + step;
  goTo(state.shown[Math.max(0, Math.min(last, next))], true);
}

function openReport(row) {
  if (row < 0 || !study.links[row]) return;
  const link = reportLink(row, "");
  document.body.append(link);
  link.click();
  link.remove();
}
