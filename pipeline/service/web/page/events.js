// Events: a list that grows by itself at the top and on demand at the end; its filters stand in the address.

import { get, hub } from "./api.js";
import { h } from "./dom.js";
import { showEvent } from "./event_detail.js";
import { eventRow, thingOf } from "./event_row.js";
import { dayOf, fromLocal, toLocal } from "./format.js";
import { streams } from "./streams.js";
import { text } from "./text.js";

const PAGE = 40;
const MOST = 400; // rows kept while nobody scrolls: an open page must not grow for ever
const SEVERAL = ["stream", "event", "kind"];
const FIELDS = ["stream", "event", "kind", "label", "person", "place", "min_score", "since", "until"];
const PRESETS = { all: "", seen: "kind=object&event=ended", named: "kind=identity&event=new", places: "kind=zone&kind=line" };

class Events extends HTMLElement {
  #query = new URLSearchParams();
  #next = null;
  #timer = 0;
  #ids = []; // of the rows
  #known = new Set(); // and of events that have none, since a later one tells of the same thing
  #things = new Map(); // what was seen: the events of it, that of its row first
  #turn = 0;

  connectedCallback() {
    this.list = h("div", { class: "event-list", role: "region", "aria-label": text.events.list });
    this.more = h("button", { hidden: true, onclick: () => this.older() }, text.events.more);
    this.presets = h("div", { class: "presets" });
    this.suggested = Object.fromEntries(["label", "person", "place"].map((field) => [field, h("datalist", { id: `known-${field}` })]));
    this.filters = h("form", { class: "filters", onchange: () => this.filter(), onsubmit: (event) => { event.preventDefault(); this.filter(); } });
    this.folded = h("details", { class: "card fold" }, h("summary", {}, text.events.filters), this.filters, Object.values(this.suggested), h("p", { class: "muted small" }, text.events.link));
    this.replaceChildren(h("header", { class: "head" }, h("h1", {}, text.views.events), h("div", { class: "spring" }), this.presets), this.folded, this.list, this.more);
    this.onEvent = () => this.soon();
    get("/api/people").then((people) => this.suggest("person", people.map(({ name }) => name))).catch(() => {}); // there is no gallery
    this.onStreams = () => this.filters.dataset.streams !== streams.rows.map((row) => row.name).join() && this.drawFilters();
    hub.addEventListener("event", this.onEvent);
    hub.addEventListener("state", this.onEvent);
    streams.addEventListener("change", this.onStreams);
    this.seen = new IntersectionObserver(([entry]) => entry.isIntersecting && this.older(), { rootMargin: "600px" });
    this.seen.observe(this.more);
    this.poll = setInterval(() => !document.hidden && this.newer(), 10_000); // the store may be written without a run that is heard
  }

  disconnectedCallback() {
    hub.removeEventListener("event", this.onEvent);
    hub.removeEventListener("state", this.onEvent);
    streams.removeEventListener("change", this.onStreams);
    this.seen.disconnect();
    clearTimeout(this.#timer);
    clearInterval(this.poll);
    this.detail?.close();
  }

  async route(name, query) {
    if (this.#query.toString() !== query.toString() || !this.list.firstChild) {
      if (!this.list.firstChild) this.folded.open = !Object.values(PRESETS).includes(`${query}`);
      this.#query = query;
      this.drawFilters();
      await this.load();
    }
    if (this.detail?.dataset.id !== name) this.detail?.close();
    if (name && !this.detail?.open) this.open(name);
  }

  async open(id) {
    const near = this.#ids.indexOf(Number(id));
    const address = (other) => other === undefined ? null : `#/events/${other}${this.#suffix}`;
    this.detail = await showEvent(id, address(this.#ids[near - 1]), near < 0 ? null : address(this.#ids[near + 1]), this.#sameAs(id), () => this.#sameAs(id).forEach((one) => this.remove(one)), () => this.load());
    this.detail?.addEventListener("close", () => {
      if (location.hash.startsWith(`#/events/${id}`)) location.hash = `#/events${this.#suffix}`;
      this.list.querySelector(`[data-id="${id}"] a`)?.focus();
    });
    if (!this.detail) location.hash = `#/events${this.#suffix}`;
  }

  /** The events that the row of this one stands for. */
  #sameAs(id) {
    return [...this.#things.values()].find((all) => all[0] === Number(id)) ?? [Number(id)];
  }

  /** Offer what a field may be. */
  suggest(field, names) {
    const list = this.suggested[field];
    const known = new Set([...list.children].map(({ value }) => value));
    list.append(...[...new Set(names)].filter((name) => name && !known.has(name)).map((value) => h("option", { value })));
  }

  get #suffix() {
    return this.#query.size ? `?${this.#query}` : "";
  }

  drawFilters() {
    const { fields, any, names, kinds, presets, clear } = text.events;
    const rows = streams.rows.map((row) => row.name);
    this.filters.dataset.streams = rows.join();
    const chosen = this.#query.getAll("stream");
    const options = {
      stream: [...new Set([...rows, ...chosen])].map((name) => [name, name]),
      event: Object.entries(names), kind: Object.entries(kinds),
    };
    const several = (field) => h("fieldset", {}, h("legend", {}, fields[field]), options[field].map(([value, words]) =>
      h("label", { class: "chip" }, h("input", { type: "checkbox", name: field, value, ".checked": this.#query.getAll(field).includes(value) }), h("span", {}, words))));
    this.suggest("place", streams.rows.flatMap(({ zones, lines }) => [...zones ?? [], ...lines ?? []]).map(({ name }) => name));
    const line = (field, props) => h("label", {}, fields[field], h("input", { name: field, list: field in this.suggested ? `known-${field}` : null, placeholder: any, ".value": this.#query.get(field) ?? "", ...props }));
    const time = (field) => line(field, { type: "datetime-local", ".value": toLocal(this.#query.get(field)) });
    this.filters.replaceChildren(
      ...SEVERAL.map(several),
      h("div", { class: "fields" }, line("label"), line("person"), line("place"), line("min_score", { type: "number", min: "0", max: "1", step: "0.05" }), time("since"), time("until")));
    const here = this.#query.toString();
    this.presets.replaceChildren(...Object.entries(PRESETS).map(([key, query]) =>
      h("a", { class: "toggle", href: `#/events${query ? `?${query}` : ""}`, "aria-current": here === query ? "true" : null }, presets[key])),
      ...(Object.values(PRESETS).includes(here) ? [] : [h("a", { class: "small", href: "#/events" }, clear)]));
  }

  filter() {
    const query = new URLSearchParams();
    const given = new FormData(this.filters);
    for (const field of FIELDS) {
      for (const value of given.getAll(field)) {
        const one = field === "since" || field === "until" ? fromLocal(value) : value.trim();
        if (one) query.append(field, one);
      }
    }
    const held = document.activeElement?.closest("label")?.control;
    const [name, value] = [held?.name, held?.value];
    location.hash = `#/events${query.size ? `?${query}` : ""}`;
    // The fields are drawn anew: whoever works with the keyboard stays where they were.
    setTimeout(() => name && [...this.filters.elements].find((one) => one.name === name && (one.type !== "checkbox" || one.value === value))?.focus(), 50);
  }

  ask(extra = {}) {
    const query = new URLSearchParams(this.#query);
    for (const [key, value] of Object.entries({ limit: PAGE, ...extra })) query.set(key, value);
    return get(`/api/events?${query}`);
  }

  async load() {
    const turn = ++this.#turn;
    try {
      const page = await this.ask();
      if (turn !== this.#turn) return;
      this.#ids = [];
      this.#known.clear();
      this.#things.clear();
      this.list.replaceChildren();
      this.take(page);
    } catch (error) {
      this.list.replaceChildren(h("p", { class: "error", role: "alert" }, error.message));
      this.#next = null;
      this.more.hidden = true;
    }
  }

  /** Add what was found at the end; the next page comes at once where that was little. */
  take(page) {
    this.add(page.events, false);
    this.#next = page.next && { cursor: page.next };
    this.more.hidden = !this.#next;
    this.seen.unobserve(this.more); // it tells only of what changes
    this.seen.observe(this.more);
  }

  async older() {
    if (!this.#next || this.busy) return;
    this.busy = true;
    const turn = this.#turn;
    const page = await this.ask(this.#next).catch(() => null);
    this.busy = false;
    if (!page || turn !== this.#turn) return;
    this.take(page);
  }

  soon() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.newer(), 400);
  }

  async newer() {
    const turn = this.#turn;
    const page = await this.ask().catch(() => null);
    if (!page || turn !== this.#turn) return;
    const fresh = page.events.filter((event) => !this.#known.has(event.id));
    const isShort = page.next && page.events.length < PAGE; // it looked far and did not find much
    if (fresh.length === page.events.length && this.#ids.length && !isShort) return this.load(); // more came than a page holds
    this.add(fresh, true);
    if (this.#ids.length > MOST && scrollY < innerHeight) this.trim();
  }

  /** Give up rows at the end; they are asked for again by their time. */
  trim() {
    const rows = [...this.list.querySelectorAll("li")];
    for (const row of rows.slice(MOST / 2)) row.remove();
    for (const section of this.list.querySelectorAll("section:not(:has(li))")) section.remove();
    this.#ids.length = MOST / 2;
    this.#known = new Set(this.#ids);
    for (const [thing, [shown]] of this.#things) if (!this.#known.has(shown)) this.#things.delete(thing);
    this.#next = { until: new Date(Date.parse(rows[MOST / 2 - 1].dataset.at) + 1).toISOString() };
    this.more.hidden = false;
  }

  add(events, first) {
    this.list.querySelector(".empty, .error")?.remove();
    this.suggest("label", events.map(({ label, person }) => label === person ? null : label));
    for (const event of first ? events.toReversed() : events) {
      if (this.#known.has(event.id)) continue;
      this.#known.add(event.id);
      // What was seen has one row, the latest word on it, unless certain events are asked for.
      const thing = this.#query.has("event") ? null : thingOf(event);
      const others = this.#things.get(thing) ?? [];
      if (thing) this.#things.set(thing, first ? [event.id, ...others] : [...others, event.id]);
      if (others.length && !first) continue;
      if (others.length) this.remove(others[0]);
      const day = dayOf(event.at);
      let section = [...this.list.children].find((one) => one.dataset.day === day);
      if (!section) {
        section = h("section", { dataset: { day } }, h("h2", {}, day), h("ol", { class: "rows cards" }));
        this.list[first ? "prepend" : "append"](section);
      }
      section.lastChild[first ? "prepend" : "append"](eventRow(event, this.#query));
      this.#ids[first ? "unshift" : "push"](event.id);
    }
    if (!this.#ids.length) this.list.replaceChildren(h("p", { class: "empty" }, text.events.empty));
  }

  remove(id) {
    this.list.querySelector(`[data-id="${id}"]`)?.remove();
    this.#ids = this.#ids.filter((one) => one !== Number(id));
  }
}

customElements.define("tl-events", Events);
