// What other limits would accept. All numbers come with the page; nothing is estimated here.

const percent = (share) => `${number(100 * share, 0)} %`;

function acceptedAt({ dice, level }, row) {
  const from = study.limits.from_level[dice][row];
  return from !== null && from <= level;
}

function limitWords({ dice, level }) {
  return `a Dice of ${number(study.limits.dices[dice])} and ${percent(study.limits.levels[level])}`;
}

function chosenLimits() {
  return { dice: Number(byId("limit-dice").value), level: Number(byId("limit-level").value) };
}

function showLimits() {
  const limits = chosenLimits();
  byId("limit-dice-value").textContent = number(study.limits.dices[limits.dice]);
  byId("limit-level-value").textContent = percent(study.limits.levels[limits.level]);
  let accepted = 0;
  for (let row = 0; row < study.count; row++) accepted += acceptedAt(limits, row);
  const most = study.limits.most_bad[limits.dice][limits.level];
  const bad = accepted ? ` At most ${most} of them (${percent(most / accepted)}) ${most === 1 ? "is" : "are"} bad.` : "";
  byId("limit-result").textContent = `${accepted} mask${accepted === 1 ? " is" : "s are"} accepted.${bad}`;
  if (state.limits) filterByLimits(limits);
}

function filterByLimits(limits) {
  state.limits = limits;
  press();
  scrollBox.scrollTop = 0;
  refresh();
}

function dropLimits() {
  filterByLimits(null);
}

function wireLimits() {
  if (!study.limits) return;
  byId("limit-dice").value = study.limits.dices.indexOf(study.limits.min_dice);
  byId("limit-level").value = study.limits.levels.indexOf(0.05);
  for (const id of ["limit-dice", "limit-level"]) byId(id).addEventListener("input", showLimits);
  byId("limit-show").addEventListener("click", () => filterByLimits(state.limits ? null : chosenLimits()));
  showLimits();
}
