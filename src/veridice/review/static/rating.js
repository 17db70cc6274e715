// The form of a rating, and what of it is kept while it is not sent.
"use strict";
import { $, button, make } from "./panels.js";

const WORDS = { accept: "Accept", "needs edit": "Needs edit", reject: "Reject" };
const SCORES = { 1: "make anew", 2: "poor", 3: "needs edits", 4: "good", 5: "perfect" };

export class RatingForm {
  // `submit` sends; `skip` goes on without; `undo` takes the last one back.
  constructor(me, { submit, skip, undo }) {
    Object.assign(this, { me, submit, scan: null });
    this.choices = me.scale === "1-5" ? Object.keys(SCORES) : me.ratings;
    this.comment = make("textarea", { id: "comment", rows: 2, maxLength: 4000, oninput: () => this.keep() });
    this.buttons = this.choices.map((value, n) => button(me.scale === "1-5" ? `${value} ${SCORES[value]}` : WORDS[value], me.scale === "1-5" ? "" : `${n + 1}`, () => this.choose(n), { role: "radio", className: value.replace(" ", "-") }));
    this.reasons = me.reasons.map((text, n) => button(text, `⇧${n + 1}`, () => this.toggle(n)));
    this.send = button("Save and next", "Enter", () => this.trySubmit());
    const choices = make("div", { className: `choices ${me.scale === "1-5" ? "five" : "three"}`, role: "radiogroup", ariaLabel: "Rating" }, ...this.buttons);
    $("rating").replaceChildren(
      make("fieldset", {}, make("legend", {}, me.adjudicator ? "Your decision" : "The mask"), choices),
      make("fieldset", {}, make("legend", {}, "Because of"), make("div", { className: "choices two" }, ...this.reasons)),
      make("fieldset", {}, make("legend", {}, make("label", { htmlFor: "comment" }, "Comment ", make("kbd", {}, "c"))), this.comment),
      make("div", { className: "act" }, this.send, button("Skip", "n", skip), button("Undo", "u", undo)),
    );
    $("rating").addEventListener("submit", (event) => event.preventDefault());
  }

  get place() {
    return `veridice ${this.me.study} ${this.me.rater} ${this.scan} ${this.version}`;
  }

  open(scan, version, mine) {
    Object.assign(this, { scan, version });
    let kept = null;
    try {
      kept = JSON.parse(localStorage.getItem(this.place));
    } catch {
      // A browser may keep nothing.
    }
    const said = kept ?? mine ?? { rating: null, score: null, reasons: [], comment: "" };
    this.value = this.choices.indexOf(this.me.scale === "1-5" ? String(said.score) : said.rating);
    this.chosen = new Set(said.reasons);
    this.comment.value = said.comment;
    this.draw();
  }

  get said() {
    const value = this.choices[this.value] ?? null;
    const rating = this.me.scale === "1-5" ? { score: value ? Number(value) : null } : { rating: value };
    return { ...rating, reasons: this.me.reasons.filter((text) => this.chosen.has(text)), comment: this.comment.value.trim() };
  }

  keep() {
    try {
      localStorage.setItem(this.place, JSON.stringify(this.said));
    } catch {
      // Then it lives as long as the page.
    }
  }

  // `place` is that of the scan that was sent: another one may be open by now.
  sent(place) {
    try {
      localStorage.removeItem(place);
    } catch {
      // Nothing was kept.
    }
  }

  choose(n) {
    this.value = n;
    this.keep();
    this.draw();
  }

  toggle(n) {
    const text = this.me.reasons[n];
    if (!this.chosen.delete(text)) this.chosen.add(text);
    this.keep();
    this.draw();
  }

  trySubmit() {
    if (this.value >= 0) this.submit(this.said);
    else this.buttons[0].focus();
  }

  draw() {
    this.buttons.forEach((one, n) => one.setAttribute("aria-checked", String(n === this.value)));
    this.reasons.forEach((one, n) => one.setAttribute("aria-pressed", String(this.chosen.has(this.me.reasons[n]))));
    this.send.disabled = this.value < 0;
  }
}
