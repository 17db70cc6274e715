// The plots: one Vega view each, fed with the rows that are shown, the others, and the one that is lit.

const LARGEST = 30; // groups with a lane of their own
const TREND = 30; // scans from which on a running median says something
const NEAR = 14; // pixels from the pointer to a dot
const BINS = 40;
const CROWD = 100; // scans from which on the width of a lane shows their density
const JITTER = 0.618034; // the golden ratio spreads neighbours evenly
const plots = new Map();
const visible = new Set();
const sight = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const plot = plots.get(entry.target.dataset.plot);
    if (entry.isIntersecting && plot) visible.add(plot);
    else visible.delete(plot);
  }
  flushPlots();
}, { rootMargin: "100px" });
let waiting = false;

const judged = Array.from({ length: study.count }, (_, row) => row).filter((row) => study.state[row] !== "failed");

function lanesBy(name) {
  const values = name === "verdict" ? study.state : study.table[name];
  const present = new Set(judged.map((row) => values[row]).filter((value) => value !== null).map(String));
  if (name === "verdict") return ["reject", "review", "accept", "none"].filter((verdict) => present.has(verdict));
  return mostOf([...present], values).sort(collator.compare);
}

/** Groups that have a lane: the largest ones. */
function mostOf(groups, values) {
  const size = countBy(values);
  return groups.sort((a, b) => size.get(b) - size.get(a)).slice(0, LARGEST);
}

function countBy(values) {
  const size = new Map();
  for (const row of judged) size.set(String(values[row]), (size.get(String(values[row])) || 0) + 1);
  return size;
}

function timeSpan() {
  const times = judged.map((row) => study.times[row]).filter((time) => time !== null);
  const [first, last] = times.reduce(([low, high], time) => [Math.min(low, time), Math.max(high, time)], [Infinity, -Infinity]);
  const margin = Math.max(86400000, 0.02 * (last - first));
  return [first - margin, last + margin];
}

function laneNames(plot) {
  if (plot.by === "verdict") return plot.lanes.map((name) => WORDS[name]);
  const size = countBy(study.table[plot.by]);
  return plot.lanes.map((name) => `${name} (${size.get(name)})`);
}

function jitter(row) {
  return (((row + 1) * JITTER) % 1) * 2 - 1;
}

/** Wide where scans are many, so that the outline of a lane shows how its values are spread. */
function spreadLanes(plot, points) {
  const { scale } = study.measures[plot.measure];
  const even = scale.type === "symlog" ? Math.log1p : (value) => value;
  const [low, high] = (plot.near ? study.measures[plot.measure].near : scale).domain.map(even);
  const bin = (point) => Math.max(0, Math.min(BINS - 1, Math.floor((BINS * (even(point.value) - low)) / (high - low))));
  const counts = plot.lanes.map(() => new Float64Array(BINS + 2));
  for (const point of points) if (point) counts[point.group][bin(point) + 1]++;
  const smooth = counts.map((lane) => Array.from({ length: BINS }, (_, n) => lane[n] + 2 * lane[n + 1] + lane[n + 2]));
  const most = smooth.map((lane) => Math.max(...lane));
  const crowded = smooth.map((_, lane) => points.filter((point) => point?.group === lane).length >= CROWD);
  for (const point of points) {
    if (!point) continue;
    const width = crowded[point.group] ? Math.max(0.1, smooth[point.group][bin(point)] / most[point.group]) : 0.85;
    point.lane = point.group + 0.42 * width * jitter(point.row);
  }
}

function pointsOf(plot) {
  const points = new Array(study.count).fill(null);
  const values = plot.by === "verdict" ? study.state : study.table[plot.by];
  const lane = new Map(plot.lanes.map((name, index) => [name, index]));
  for (const row of judged) {
    const value = measureOf(plot.measure, row);
    const time = study.times[row];
    const group = plot.kind === "time" ? 0 : lane.get(String(values[row]));
    if (value === null || group === undefined || (plot.kind === "time" && time === null)) continue;
    points[row] = { row, value, time, lane: group, group, verdict: study.state[row] };
  }
  if (plot.kind !== "time") spreadLanes(plot, points);
  return points;
}

const INKS = ["ink", "soft", "faint"];
const PAPER = { ink: "#1c2330", soft: "#5b6577", faint: "#c9cfd9" };

function colour(name) {
  if (printing) return PAPER[name];
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

function specificationOf(plot) {
  const spec = structuredClone(study.charts[plot.kind]);
  const { label, scale, near, axis } = study.measures[plot.measure];
  const widely = { scale, axis: { ...axis, title: null } };
  const closely = { scale: near, axis: { ...axis, title: label } };
  spec.description = `${label}, a dot a scan`;
  spec.height = plot.kind === "time" ? 190 : plot.lanes.length * plot.step;
  const values = { lanes: laneNames(plot) };
  for (const name of INKS) values[name] = colour(name);
  [values.pointSize, values.pointOpacity] = study.count > 1500 ? [12, 0.5] : study.count > 300 ? [26, 0.7] : [44, 0.85];
  for (const param of spec.params) param.value = values[param.name];
  for (const layer of spec.layer) {
    for (const channel of ["x", "y"]) {
      const encoding = layer.encoding[channel];
      if (encoding?.field?.startsWith("value")) Object.assign(encoding, plot.near ? closely : widely);
      if (encoding?.field === "time") encoding.scale = { ...encoding.scale, domain: { expr: JSON.stringify(timeSpan()) } };
    }
    const range = state.ranges.get(plot.key);
    if (layer.params && range) layer.params = [{ ...layer.params[0], value: { x: [range.low, range.high] } }];
  }
  return spec;
}

async function embed(plot) {
  plot.view?.finalize();
  plot.view = null;
  const points = pointsOf(plot);
  const tooltip = () => {};
  const options = { ast: true, actions: false, renderer: "canvas", hover: false, defaultStyle: false, tooltip, logLevel: 1 };
  const turn = (plot.turn = (plot.turn || 0) + 1);
  const made = await vegaEmbed(plot.target, specificationOf(plot), options);
  if (turn !== plot.turn) return void made.view.finalize();
  Object.assign(plot, { view: made.view, points, stale: true, lit: -1, places: null });
  const mark = study.measures[plot.measure].mark;
  made.view.insert("marks", mark === null ? [] : [{ value: mark }]);
  made.view.addSignalListener("brush", (_, selected) => brushed(plot, selected));
  await update(plot);
}

function brushed(plot, selected) {
  const range = selected && (selected.value || selected.time);
  const known = state.ranges.get(plot.key);
  if (!range && !known) return;
  if (range && known && known.low === range[0] && known.high === range[1]) return;
  const measure = plot.kind === "time" ? "time" : plot.measure;
  if (range) state.ranges.set(plot.key, { measure, low: Math.min(...range), high: Math.max(...range) });
  else state.ranges.delete(plot.key);
  soon(refresh);
}

let refreshing = false;
async function soon(work) {
  if (refreshing) return;
  refreshing = true;
  await frame();
  refreshing = false;
  work();
}

async function update(plot) {
  const { view, points } = plot;
  if (!view) return;
  if (plot.stale) {
    const [shown, rest] = [[], []];
    for (const point of points) if (point) (passes[point.row] ? shown : rest).push({ ...point });
    view.data("shown", shown);
    view.data("rest", rest);
    if (plot.kind === "time") view.data("trend", trend(shown));
    else if (plot.boxes) view.data("boxes", boxes(plot, shown));
    plot.stale = false;
  }
  const row = litScan();
  if (row !== plot.lit) {
    plot.lit = row;
    view.data("lit", row >= 0 && points[row] ? [{ ...points[row] }] : []);
  }
  plot.figure.dataset.lit = row >= 0 && points[row] ? String(cell("scan", row)) : "";
  await view.runAsync();
}

/** Bring the plots in sight up to date, one a frame where it takes long, so that typing is never held up. */
async function flushPlots() {
  if (waiting) return;
  waiting = true;
  await frame();
  const behind = () => [...visible].filter((plot) => plot.view && (plot.stale || plot.lit !== litScan()));
  for (let plots = behind(); plots.length; plots = behind()) {
    const slow = plots.find((plot) => plot.stale);
    await (slow ? update(slow) : Promise.all(plots.map(update)));
    if (slow && study.count > 1000) await frame();
  }
  waiting = false;
  document.body.dataset.settled = String(Number(document.body.dataset.settled || 0) + 1);
}

function frame() {
  return new Promise((resolve) => requestAnimationFrame(resolve));
}

function quantile(sorted, share) {
  const place = (sorted.length - 1) * share;
  const low = Math.floor(place);
  return sorted[low] + (place - low) * (sorted[Math.min(low + 1, sorted.length - 1)] - sorted[low]);
}

function boxes(plot, shown) {
  return plot.lanes.flatMap((_, lane) => {
    const values = shown.filter((point) => point.group === lane).map((point) => point.value).sort((a, b) => a - b);
    if (values.length < 5) return [];
    const [low, middle, high] = [0.25, 0.5, 0.75].map((share) => quantile(values, share));
    return [{ lane, value: middle, value_low: low, value_high: high, lane_low: lane - 0.42, lane_high: lane + 0.42 }];
  });
}

/** Running median over the scans next to each other in time. */
function trend(shown) {
  const sorted = [...shown].sort((a, b) => a.time - b.time);
  if (sorted.length < TREND) return [];
  const reach = Math.max(7, Math.min(30, Math.round(sorted.length / 12)));
  const line = [];
  const step = Math.max(1, Math.floor(sorted.length / 300));
  for (let middle = reach; middle < sorted.length - reach; middle += step) {
    const values = sorted.slice(middle - reach, middle + reach + 1).map((point) => point.value).sort((a, b) => a - b);
    line.push({ time: sorted[middle].time, value: values[reach] });
  }
  return line;
}

// ---- Pointer ----

function places(plot) {
  const width = plot.view.width();
  if (plot.places?.width === width) return plot.places;
  const [x, y] = [plot.view.scale("x"), plot.view.scale("y")];
  const across = (point) => (plot.kind === "time" ? [x(point.time), y(point.value)] : [x(point.value), y(point.lane)]);
  plot.places = { width, spots: plot.points.map((point) => point && across(point)) };
  return plot.places;
}

/** Where the axes begin within the canvas, in pixels. */
function corner(view) {
  const padding = view.padding();
  const origin = view.origin();
  return [padding.left + origin[0], padding.top + origin[1]];
}

function nearest(plot, event) {
  const frame = plot.target.querySelector("canvas").getBoundingClientRect();
  const [left, top] = corner(plot.view);
  const [x, y] = [event.clientX - frame.left - left, event.clientY - frame.top - top];
  let best = -1;
  let least = NEAR * NEAR;
  places(plot).spots.forEach((spot, row) => {
    if (!spot) return;
    // Scans outside the filters are fainter, and yield to those inside.
    const distance = (spot[0] - x) ** 2 + (spot[1] - y) ** 2 + (passes[row] ? 0 : NEAR * NEAR * 0.5);
    if (distance < least) [least, best] = [distance, row];
  });
  return best;
}

let following = 0;
function pointed(plot, event) {
  if (!plot.view || event.buttons) return void hideTip();
  const row = nearest(plot, event);
  hover(row);
  clearTimeout(following);
  if (row < 0) return void hideTip();
  showTip(row, plot, event);
  following = setTimeout(() => bringIntoSight(row), 160);
}

function showTip(row, plot, event) {
  const tip = byId("tip");
  const said = element("span", `sign ${study.state[row]}`, `${SIGNS[study.state[row]]} ${WORDS[study.state[row]]}`);
  const dice = cell("predicted_dice", row);
  const lines = [element("strong", "", String(cell("scan", row))), said, ` · Dice ${number(dice)}`];
  if (plot.measure !== "predicted_dice") {
    lines.push(element("div", "", `${study.measures[plot.measure].label}: ${compact(plot.measure, cell(plot.measure, row))}`));
  }
  if (plot.kind === "time") lines.push(element("div", "", `Acquired ${compact("time", study.times[row])}`));
  if (study.images[row]) lines.unshift(picture(row, false));
  tip.replaceChildren(...lines);
  tip.hidden = false;
  const left = event.clientX + 16 + tip.offsetWidth > innerWidth ? event.clientX - 16 - tip.offsetWidth : event.clientX + 16;
  tip.style.left = `${Math.max(4, left)}px`;
  tip.style.top = `${Math.max(4, Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 8))}px`;
}

function hideTip() {
  byId("tip").hidden = true;
  clearTimeout(following);
}

// ---- Making them ----

function addPlot(parent, key, options) {
  const figure = element("figure");
  const caption = element("figcaption", "", options.title ?? study.measures[options.measure].label);
  const target = element("div", "chart");
  figure.append(options.caption || caption, target);
  figure.dataset.plot = key;
  parent.append(figure);
  const plot = { key, figure, target, lanes: [], step: 26, lit: -1, stale: true, ...options };
  plots.set(key, plot);
  let pressed = null;
  target.addEventListener("pointerdown", (event) => (pressed = [event.clientX, event.clientY]));
  target.addEventListener("pointermove", (event) => pointed(plot, event));
  target.addEventListener("pointerleave", () => {
    hideTip();
    hover(-1);
  });
  target.addEventListener("click", (event) => {
    if (!plot.view || !pressed || Math.hypot(event.clientX - pressed[0], event.clientY - pressed[1]) > 3) return;
    const row = nearest(plot, event);
    if (state.ranges.has(key)) dropRange(key);
    else if (row >= 0 && passes[row]) goTo(row, false);
  });
  sight.observe(figure);
  return plot;
}

async function dropBrush(plot) {
  if (!plot?.view) return;
  plot.view.signal("brush_x", [0, 0]);
  await plot.view.runAsync();
}
