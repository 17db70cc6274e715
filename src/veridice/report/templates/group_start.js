// Ties the page together: filters, keys, colours, and the first drawing.

function fillMeasures(select, chosen, without = []) {
  for (const [name, { label }] of Object.entries(study.measures)) {
    if (without.includes(name)) continue;
    const option = element("option", "", label);
    option.value = name;
    select.append(option);
  }
  select.value = chosen ?? select.options[0]?.value ?? "";
}

const scans = (count) => `${count} scan${count === 1 ? "" : "s"}`;
const every = (selector, work) => document.querySelectorAll(selector).forEach(work);

function showStatus() {
  const shown = state.shown.length;
  byId("count").textContent = shown === study.count ? scans(shown) : `${shown} of ${scans(study.count)}`;
  byId("nothing").hidden = shown > 0;
  byId("rows").setAttribute("aria-rowcount", String(shown + 1));
  for (const id of ["export-tsv", "export-bids"]) byId(id).disabled = !shown;
  const more = shown && shown < study.count ? besides(state.shown) : 0;
  byId("bids-note").textContent = more
    ? `A BIDS filter picks people and sessions, not pairs of them: here it also picks ${scans(more)} not in the list.`
    : "";
  showChips();
}

function showChips() {
  const chips = [...state.ranges].map(([key, { measure, low, high }]) => {
    const label = measure === "time" ? "Acquired" : study.measures[measure].label;
    const [from, to] = [low, high].map((end) => (Number.isFinite(end) ? compact(measure, end) : "…"));
    return chip(`${label}: ${from} to ${to}`, () => dropRange(key));
  });
  if (state.first !== null) chips.push(chip(`first ${state.first} of the worklist`, () => showFirst(state.first)));
  if (state.limits) chips.push(chip(`accepted at ${limitWords(state.limits)}`, dropLimits));
  byId("chips").replaceChildren(...chips);
}

function chip(text, drop) {
  const button = element("button", "", `${text} ×`);
  button.type = "button";
  button.setAttribute("aria-label", `Drop the filter ${text}`);
  button.addEventListener("click", drop);
  return button;
}

function dropRange(key) {
  state.ranges.delete(key);
  if (key === "form") for (const id of ["range-low", "range-high"]) byId(id).value = "";
  else dropBrush(plots.get(key));
  refresh();
}

function showFirst(count) {
  state.first = state.first === count ? null : count;
  press();
  scrollBox.scrollTop = 0;
  refresh();
}

function press() {
  every("[data-verdict]", (button) => (button.ariaPressed = String(state.verdicts.has(button.dataset.verdict))));
  every("[data-first]", (button) => (button.ariaPressed = String(Number(button.dataset.first) === state.first)));
  every("#limit-show", (button) => (button.ariaPressed = String(state.limits !== null)));
}

function clearAll() {
  Object.assign(state, { search: "", first: null, limits: null, current: -1, hovered: -1, sort: { column: "rank", down: false } });
  state.verdicts.clear();
  state.choices.clear();
  byId("search").value = "";
  for (const select of document.querySelectorAll("[data-filter]")) select.value = "";
  for (const key of [...state.ranges.keys()]) dropRange(key);
  press();
  showOrder();
  scrollBox.scrollTop = 0;
  refresh();
}

function wireFilters() {
  byId("search").addEventListener("input", (event) => {
    state.search = event.target.value;
    scrollBox.scrollTop = 0;
    refresh();
  });
  for (const button of document.querySelectorAll("[data-verdict]")) {
    button.addEventListener("click", () => {
      const verdict = button.dataset.verdict;
      if (!state.verdicts.delete(verdict)) state.verdicts.add(verdict);
      press();
      scrollBox.scrollTop = 0;
      refresh();
    });
  }
  every("[data-first]", (button) => button.addEventListener("click", () => showFirst(Number(button.dataset.first))));
  for (const select of document.querySelectorAll("[data-filter]")) {
    select.addEventListener("change", () => {
      state.choices.set(select.dataset.filter, select.value);
      scrollBox.scrollTop = 0;
      refresh();
    });
  }
  for (const id of ["range-measure", "range-low", "range-high"]) byId(id).addEventListener("change", readRange);
  for (const id of ["clear", "clear-nothing"]) byId(id).addEventListener("click", clearAll);
  byId("export-tsv").addEventListener("click", () =>
    save("worklist.tsv", "text/tab-separated-values", tableAsTsv(state.shown)),
  );
  byId("export-bids").addEventListener("click", () =>
    save("bids-filter.json", "application/json", JSON.stringify(bidsFilter(state.shown), null, 2) + "\n"),
  );
}

function readRange() {
  const [low, high] = ["range-low", "range-high"].map((id) => byId(id).value);
  const [least, most] = [low === "" ? -Infinity : Number(low), high === "" ? Infinity : Number(high)];
  const range = { measure: byId("range-measure").value, low: least, high: most };
  if (low === "" && high === "") state.ranges.delete("form");
  else state.ranges.set("form", range);
  refresh();
}

function wireKeys() {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const writing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
    if (event.key === "Escape") {
      // So that J and K move again.
      if (writing) event.target.blur();
      document.querySelector(".range").open = false;
      return void clearAll();
    }
    if (writing) {
      if (event.target.id === "search" && event.key === "Enter") move(1);
      if (event.target.id === "search" && event.key === "ArrowDown") move(1);
      else return;
      return void event.preventDefault();
    }
    const inList = scrollBox.contains(event.target);
    const step = { j: 1, k: -1, ...(inList ? { ArrowDown: 1, ArrowUp: -1, PageDown: 6, PageUp: -6 } : {}) }[event.key];
    const pressable = event.target.closest("button, a, summary");
    if (step) move(step);
    else if (event.key === "/") byId("search").focus();
    else if (event.key === "Enter" && !pressable) openReport(state.current);
    else return;
    event.preventDefault();
  });
}

function wireList() {
  scrollBox.addEventListener("scroll", () => drawRows(false), { passive: true });
  new ResizeObserver(() => drawRows(false)).observe(scrollBox);
  const rowAt = (event) => Number(event.target.closest?.("tr[data-row]")?.dataset.row ?? -1);
  body.addEventListener("pointermove", (event) => hover(rowAt(event)));
  body.addEventListener("pointerleave", () => hover(-1));
  body.addEventListener("click", (event) => {
    if (rowAt(event) >= 0 && !event.target.closest("a")) goTo(rowAt(event), true);
  });
  for (const event of ["beforeprint", "afterprint"]) {
    addEventListener(event, () => {
      printing = event === "beforeprint";
      drawRows(true);
      paintPlots();
      plots.forEach(update);
    });
  }
}

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function paintPlots() {
  for (const { view } of plots.values()) {
    if (!view) continue;
    for (const name of INKS) view.signal(name, colour(name));
    view.run();
  }
}

function wireColours() {
  const follow = () => {
    byId("theme").ariaPressed = String(isDark());
    document.body.dataset.theme = isDark() ? "dark" : "light";
  };
  const repaint = () => {
    follow();
    paintPlots();
  };
  byId("theme").addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    repaint();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
  follow();
}

/** A box no higher than its rows: fixed all the same, so that nothing jumps while a range is picked. */
function fitList() {
  const wanted = study.count * ROW_HEIGHT + byId("head").offsetHeight + 2;
  if (wanted < scrollBox.clientHeight) scrollBox.style.height = `${Math.max(160, wanted)}px`;
}

function layOut() {
  const lanes = lanesBy("verdict");
  const strips = byId("strips");
  const names = Object.keys(study.measures);
  if (!names.length || !lanes.length) return void (byId("plots").hidden = document.querySelector(".range").hidden = true);
  for (const measure of study.first) addPlot(strips, `strip-${measure}`, { kind: "lanes", by: "verdict", lanes, measure });
  const others = names.filter((name) => !study.first.includes(name));
  if (others.length) {
    const select = element("select");
    select.setAttribute("aria-label", "Another number to plot");
    fillMeasures(select, others[0], study.first);
    const plot = addPlot(strips, "strip-chosen", { kind: "lanes", by: "verdict", lanes, measure: others[0], caption: select });
    select.addEventListener("change", () => change(plot, select.value));
  }
  layOutDrift();
}

function layOutDrift() {
  const times = judged.filter((row) => study.times[row] !== null).length;
  const lanesOf = (name) => [name, study.table[name] ? lanesBy(name) : []];
  const groups = ["scanner", "site"].map(lanesOf).filter(([, lanes]) => lanes.length > 1);
  const select = byId("drift-measure");
  byId("drift").hidden = times < 2 && !groups.length;
  if (byId("drift").hidden) return;
  fillMeasures(select, null);
  const said = [];
  if (times >= 2) said.push(`Over time: the line is the running median, from ${TREND} scans on.`);
  if (groups.length) said.push("By group: the box holds the middle half, its line is the median.");
  if (groups.some(([, lanes]) => lanes.length === LARGEST)) said.push(`At most the ${LARGEST} largest groups are shown.`);
  said.push("What looks like drift may lie in the patients, not in the scanner or the method.");
  byId("drift-note").textContent = said.join(" ");
  const parent = byId("drift-charts");
  const measure = select.value;
  const made = [];
  const shared = { measure, near: true };
  const title = "Over the date of acquisition";
  if (times >= 2) made.push(addPlot(parent, "drift-time", { ...shared, kind: "time", by: "verdict", title }));
  for (const [name, lanes] of groups) {
    const lanesOfIt = { kind: "lanes", by: name, lanes, step: lanes.length > 12 ? 24 : 40, boxes: true, title: `By ${name}` };
    made.push(addPlot(parent, `drift-${name}`, { ...shared, ...lanesOfIt }));
  }
  select.addEventListener("change", () => made.forEach((plot) => change(plot, select.value)));
}

async function change(plot, measure) {
  plot.measure = measure;
  if (plot.kind !== "time" && state.ranges.delete(plot.key)) refresh();
  await embed(plot);
}

async function drawPlots() {
  // One after the other, so that the list answers meanwhile.
  for (const plot of plots.values()) {
    await embed(plot);
    await new Promise((resolve) => setTimeout(resolve));
  }
  document.body.dataset.ready = "all";
  performance.mark("plots are drawn");
}

function start() {
  buildHead();
  fitList();
  fillMeasures(byId("range-measure"), null);
  layOut();
  wireFilters();
  wireKeys();
  wireList();
  wireColours();
  wireLimits();
  listeners.filtered.push(
    () => drawRows(true),
    showStatus,
    (changed) => {
      if (changed) for (const plot of plots.values()) plot.stale = true;
      flushPlots();
    },
  );
  listeners.lit.push(markRows, flushPlots);
  refresh();
  document.body.dataset.ready = "list";
  performance.mark("list answers");
  drawPlots();
}

start();
