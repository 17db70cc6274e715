"use strict";
const form = document.getElementById("rating");
form.addEventListener("submit", (event) => {
  event.preventDefault();
  const said = new FormData(form);
  const rating = {
    Format: 1,
    Scan: form.dataset.scan,
    JudgedMask: form.dataset.mask,
    Rating: said.get("rating"),
    Reasons: said.getAll("reason"),
    Comment: said.get("comment").trim(),
    Rater: said.get("rater").trim(),
    Rated: new Date().toISOString(),
    Verdict: form.dataset.verdict,
    PredictedDice: Number(form.dataset.dice),
    GeneratedBy: [{ Name: "veridice", Version: form.dataset.version }],
  };
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(rating, null, 2) + "\n"], { type: "application/json" }));
  link.download = form.dataset.file;
  link.click();
  document.getElementById("rated").textContent = "Saved as " + form.dataset.file + ": put it beside this page.";
});
