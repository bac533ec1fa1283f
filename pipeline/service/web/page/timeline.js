// What happened when, at a glance: how much began in each quarter of an hour of a day, or minute of an hour, by label.

import { get } from "./api.js";
import { h, icon, s } from "./dom.js";
import { dayOf, minuteOf, sum } from "./format.js";
import { colourOf } from "./overlay.js";
import { text } from "./text.js";

const [MINUTE_MS, HOUR_MS] = [60_000, 3_600_000];
const BEGINNINGS = ["new", "enter", "cross"];
const NAMED = 6; // labels of the legend
const utc = (at) => new Date(at).toISOString();
const KEYS = { ArrowLeft: -1, ArrowRight: 1, PageUp: -4, PageDown: 4, Home: -Infinity, End: Infinity };

/** `<tl-timeline>`: `show(query)`; event `choose` when somebody does (detail: `since`, `until`; null: any time). */
class Timeline extends HTMLElement {
  #query = new URLSearchParams();
  #range = { begin: 0, end: 0, step: 1 };
  #steps = []; // of each its counts by label
  #labels = []; // the most frequent first
  #cursor = 0;

  connectedCallback() {
    const { strip, earlier, later, whole } = text.timeline;
    const move = (label, by, picture) => h("button", { class: "bare", "aria-label": label, title: label, onclick: () => this.choose(this.rangeAt(by).span) }, icon(picture));
    this.day = h("button", { class: "bare", title: whole, onclick: () => this.choose(this.rangeAt(0, true).span) });
    const point = (event) => this.point(Math.floor(event.offsetX / this.strip.clientWidth * this.#steps.length));
    this.strip = s("svg", { class: "strip", tabindex: "0", role: "slider", "aria-label": strip, "aria-valuemin": "0", preserveAspectRatio: "none",
      onpointerdown: point, onpointermove: point, onclick: () => this.choose(this.#step), onkeydown: (event) => this.key(event) });
    this.cursor = s("rect", { class: "cursor", width: "1", height: "100" });
    this.axis = h("div", { class: "axis", "aria-hidden": "true" });
    this.said = h("p", { "aria-hidden": "true" }); // the strip says it, too
    this.legend = h("div", { class: "legend" });
    this.replaceChildren(h("header", {}, move(earlier, -1, "back"), this.day, move(later, 1, "next"), h("div", { class: "spring" }), this.said), this.strip, this.axis, this.legend);
  }

  /** The hour that the filters lie in, else their day, else today, by the reader's clock; or so many further on. */
  rangeAt(by = 0, isDay = false) {
    const [since, until] = ["since", "until"].map((field) => Date.parse(this.#query.get(field)));
    const isHour = !isDay && until - since <= HOUR_MS;
    const at = new Date(since || until - 1 || Date.now());
    const [begin, end] = [by, by + 1].map((more) => Number(new Date(at.getFullYear(), at.getMonth(), at.getDate() + (isHour ? 0 : more), isHour ? at.getHours() + more : 0)));
    return { begin, end, span: [begin, end], step: isHour ? MINUTE_MS : HOUR_MS / 4, since, until };
  }

  /** Show what fits these filters; or again what did, as it is now. */
  async show(query = this.#query) {
    this.#query = query;
    const range = this.rangeAt();
    const { begin, end, step } = range;
    const asked = new URLSearchParams(query);
    for (const [field, value] of Object.entries({ since: utc(begin), until: utc(end), step_s: step / 1000 })) asked.set(field, value);
    // What is seen counts once, when it appears.
    if (!asked.has("event")) for (const one of BEGINNINGS) asked.append("event", one);
    if (asked.getAll("kind").includes("object") || !["kind", "person", "place"].some((field) => asked.has(field))) asked.set("kind", "object");
    const { counts } = await get(`/api/events/counts?${asked}`).catch(() => ({ counts: [] })); // the list says why
    if (query !== this.#query) return; // others are asked for by now
    this.#steps = Array.from({ length: Math.round((end - begin) / step) }, () => ({}));
    const totals = {};
    for (const one of counts) {
      const label = one.label ?? text.timeline.noLabel;
      this.#steps[Math.floor((Date.parse(one.at) - begin) / step)][label] = one.count;
      totals[label] = (totals[label] ?? 0) + one.count;
    }
    this.#labels = Object.keys(totals).sort((one, other) => totals[other] - totals[one]);
    const isOther = begin !== this.#range.begin || step !== this.#range.step;
    this.#range = range;
    this.draw(totals);
    this.point(isOther ? this.#steps.findLastIndex((one) => sum(one)) : this.#cursor);
  }

  draw(totals) {
    const { begin, end, step, since, until } = this.#range;
    const most = Math.max(1, ...this.#steps.map(sum));
    const bars = this.#steps.flatMap((counts, x) => {
      let y = 100;
      return this.#labels.filter((label) => counts[label]).map((label) => {
        const height = Math.max(3, 96 * counts[label] / most);
        return s("rect", { class: "bar", x: x + 0.1, y: y -= height, width: 0.8, height, style: { "--hue": colourOf(label) } });
      });
    });
    const [from, to] = [Math.max(begin, since || begin), Math.min(end, until || end)].map((at) => (at - begin) / step);
    const chosen = to - from < this.#steps.length && s("rect", { class: "chosen", x: from, width: to - from, height: "100" });
    this.strip.setAttribute("viewBox", `0 0 ${this.#steps.length} 100`);
    this.strip.setAttribute("aria-valuemax", this.#steps.length - 1);
    this.strip.replaceChildren(...[chosen, ...bars, this.cursor].filter(Boolean));
    this.day.textContent = step === MINUTE_MS ? `${dayOf(begin)}, ${minuteOf(begin)} – ${minuteOf(end)}` : dayOf(begin);
    this.axis.replaceChildren(...[0, 1, 2, 3, 4].map((part) => h("span", {}, minuteOf(begin + part * (end - begin) / 4))));
    this.legend.replaceChildren(...this.#labels.slice(0, NAMED).map((label) => h("span", { style: { "--hue": colourOf(label) } }, text.timeline.counted(label, totals[label]))));
  }

  /** Move to a step, and tell what happened in it. */
  point(index) {
    this.#cursor = Math.min(Math.max(0, index), this.#steps.length - 1);
    const counts = this.#steps[this.#cursor];
    const words = this.#labels.filter((label) => counts[label]).map((label) => text.timeline.counted(label, counts[label])).join(", ");
    this.said.textContent = `${this.#step.map(minuteOf).join(" – ")}: ${words || text.timeline.nothing}`;
    this.strip.setAttribute("aria-valuenow", this.#cursor);
    this.strip.setAttribute("aria-valuetext", this.said.textContent);
    this.cursor.setAttribute("x", this.#cursor);
  }

  key(event) {
    if (event.key in KEYS) this.point(this.#cursor + KEYS[event.key]);
    else if (event.key === "Enter" || event.key === " ") this.choose(this.#step);
    else if (event.key === "Escape") this.choose([null, null]);
    else return;
    event.preventDefault();
  }

  /** Begin and end of the step where the cursor is. */
  get #step() {
    return [0, 1].map((more) => this.#range.begin + (this.#cursor + more) * this.#range.step);
  }

  choose([begin, end]) {
    this.dispatchEvent(new CustomEvent("choose", { detail: { since: begin && utc(begin), until: end && utc(end) } }));
  }
}

customElements.define("tl-timeline", Timeline);
