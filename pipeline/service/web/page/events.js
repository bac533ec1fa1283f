// Events: a list that grows by itself at the top and on demand at the end; its filters stand in the address.

import { get, hub } from "./api.js";
import { h, View } from "./dom.js";
import { showEvent } from "./event_detail.js";
import { drawRows, keep } from "./event_row.js";
import { dayOf, fromLocal, toLocal } from "./format.js";
import { streams } from "./streams.js";
import { text } from "./text.js";
import { thingsOf } from "./things.js";
import "./timeline.js";

const PAGE = 40;
const MOST = 400; // rows kept while nobody scrolls: an open page must not grow for ever
const SEVERAL = ["stream", "event", "kind"];
const TIMES = ["since", "until"];
const FIELDS = [...SEVERAL, "label", "person", "place", "min_score", ...TIMES];
const PRESETS = { all: "", seen: "kind=object&kind=face&kind=identity", named: "kind=identity&event=new", places: "kind=zone&kind=line" };
const saysNothing = ({ kind, label }) => kind === "scene" && label === "none of these"; // earlier versions stored it

class Events extends View {
  #query = new URLSearchParams();
  #next = null;
  #timer = 0;
  #events = new Map(); // all that are known, by their numbers
  #things = []; // what they tell of: a row for each
  #turn = 0;

  connectedCallback() {
    this.list = h("div", { class: "event-list", role: "region", "aria-label": text.events.list });
    this.more = h("button", { hidden: true, onclick: () => this.older() }, text.events.more);
    this.presets = h("div", { class: "presets" });
    this.suggested = Object.fromEntries(["label", "person", "place"].map((field) => [field, h("datalist", { id: `known-${field}` })]));
    this.filters = h("form", { class: "filters", onchange: () => this.filter(), onsubmit: (event) => { event.preventDefault(); this.filter(); } });
    this.folded = h("details", { class: "card fold" }, h("summary", {}, text.events.filters), this.filters, Object.values(this.suggested), h("p", { class: "muted small" }, text.events.link));
    this.timeline = h("tl-timeline", { onchoose: ({ detail }) => this.at(detail) });
    this.replaceChildren(h("header", { class: "head" }, h("h1", {}, text.views.events), h("div", { class: "spring" }), this.presets), this.timeline, this.folded, this.list, this.more);
    get("/api/people").then((people) => this.suggest("person", people.map(({ name }) => name))).catch(() => {}); // there is no gallery
    for (const type of ["event", "state"]) this.listen(hub, type, () => this.soon());
    this.listen(streams, "change", () => this.filters.dataset.streams !== streams.rows.map((row) => row.name).join() && this.drawFilters());
    this.seen = new IntersectionObserver(([entry]) => entry.isIntersecting && this.older(), { rootMargin: "600px" });
    this.seen.observe(this.more);
    // The store may be written without a run that is heard.
    this.poll = setInterval(() => { if (!document.hidden) { this.newer(); this.timeline.show(); } }, 10_000);
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    this.seen.disconnect();
    clearTimeout(this.#timer);
    clearInterval(this.poll);
    this.detail?.close();
  }

  async route(name, query) {
    if (this.#query.toString() !== query.toString() || !this.list.firstChild) {
      if (!this.list.firstChild) this.folded.open = !Object.values(PRESETS).includes(`${query}`) && innerHeight > 800; // it would hide the list
      this.#query = query;
      this.drawFilters();
      this.timeline.show(query);
      await this.load();
      if (query !== this.#query) return; // the address is another one by now, or was told again
    }
    if (this.detail?.dataset.id !== name) this.detail?.close();
    if (name && !this.detail?.open) this.open(name);
  }

  async open(id) {
    const at = this.#things.findIndex(({ events }) => events.some((one) => one.id === Number(id)));
    const address = (thing) => thing && `#/events/${thing.head.id}${this.#suffix}`;
    const removed = (ids) => { ids.forEach((one) => this.#events.delete(one)); this.draw(); };
    this.detail = await showEvent(id, this.#things[at], address(this.#things[at - 1]), at < 0 ? null : address(this.#things[at + 1]), removed, () => this.load());
    this.detail?.addEventListener("close", () => {
      if (location.hash.startsWith(`#/events/${id}`)) location.hash = `#/events${this.#suffix}`;
      this.list.querySelector(`[data-id="${id}"] a`)?.focus();
    });
    if (!this.detail) location.hash = `#/events${this.#suffix}`;
  }

  /** Offer what a field may be. */
  suggest(field, names) {
    const known = new Set([...this.suggested[field].children].map(({ value }) => value));
    this.suggested[field].append(...[...new Set(names)].filter((name) => name && !known.has(name)).map((value) => h("option", { value })));
  }

  get #suffix() {
    return this.#query.size ? `?${this.#query}` : "";
  }

  drawFilters() {
    const { fields, any, names, kinds, presets, clear } = text.events;
    const rows = streams.rows.map((row) => row.name);
    this.filters.dataset.streams = rows.join();
    const chosen = [...new Set([...rows, ...this.#query.getAll("stream")])].map((name) => [name, name]);
    const options = { stream: chosen, event: Object.entries(names), kind: Object.entries(kinds) };
    const several = (field) => h("fieldset", {}, h("legend", {}, fields[field]), options[field].map(([value, words]) =>
      h("label", { class: "chip" }, h("input", { type: "checkbox", name: field, value, ".checked": this.#query.getAll(field).includes(value) }), h("span", {}, words))));
    this.suggest("place", streams.rows.flatMap(({ zones, lines }) => [...zones ?? [], ...lines ?? []]).map(({ name }) => name));
    const line = (field, props) => h("label", {}, fields[field], h("input", { name: field, list: field in this.suggested ? `known-${field}` : null, placeholder: any, ".value": this.#query.get(field) ?? "", ...props }));
    const time = (field) => line(field, { type: "datetime-local", ".value": toLocal(this.#query.get(field)) });
    this.filters.replaceChildren(
      ...SEVERAL.map(several),
      h("div", { class: "fields" }, line("label"), line("person"), line("place"), line("min_score", { type: "number", min: "0", max: "1", step: "0.05" }), time("since"), time("until")));
    const [times, others] = [true, false].map((are) => `${new URLSearchParams([...this.#query].filter(([field]) => TIMES.includes(field) === are))}`);
    this.presets.replaceChildren(...Object.entries(PRESETS).map(([key, query]) =>
      h("a", { class: "toggle", href: `#/events${[query, times].filter(Boolean).map((one, at) => `${at ? "&" : "?"}${one}`).join("")}`, "aria-current": others === query ? "true" : null }, presets[key])),
      ...(times || !Object.values(PRESETS).includes(others) ? [h("a", { class: "small", href: "#/events" }, clear)] : []));
  }

  filter() {
    const query = new URLSearchParams();
    const given = new FormData(this.filters);
    for (const field of FIELDS) {
      for (const value of given.getAll(field)) {
        const one = TIMES.includes(field) ? fromLocal(value) : value.trim();
        if (one) query.append(field, one);
      }
    }
    const held = document.activeElement?.closest("label")?.control;
    const [name, value] = [held?.name, held?.value];
    location.hash = `#/events${query.size ? `?${query}` : ""}`;
    // The fields are drawn anew: whoever works with the keyboard stays where they were.
    setTimeout(() => name && [...this.filters.elements].find((one) => one.name === name && (one.type !== "checkbox" || one.value === value))?.focus(), 50);
  }

  /** Show what happened between two moments; no matter when, where they are null. */
  at(times) {
    const query = new URLSearchParams(this.#query);
    for (const [field, moment] of Object.entries(times)) {
      if (moment) query.set(field, moment);
      else query.delete(field);
    }
    location.hash = `#/events${query.size ? `?${query}` : ""}`;
  }

  async ask(extra = {}) {
    const query = new URLSearchParams(this.#query);
    for (const [key, value] of Object.entries({ limit: PAGE, ...extra })) query.set(key, value);
    return get(`/api/events?${query}`);
  }

  async load() {
    const turn = ++this.#turn;
    try {
      const page = await this.ask();
      if (turn !== this.#turn) return;
      this.#events.clear();
      this.list.replaceChildren(); // rows lead to where the filters were
      this.take(page);
    } catch (error) {
      this.list.replaceChildren(h("p", { class: "error", role: "alert" }, error.message));
      this.#next = null;
      this.more.hidden = true;
    }
  }

  /** Add what was found at the end; the next page comes at once where that was little. */
  take(page) {
    this.add(page.events);
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
    if (page && turn === this.#turn) this.take(page);
  }

  soon() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.newer(), 400);
  }

  async newer() {
    const turn = this.#turn;
    const page = await this.ask().catch(() => null);
    if (!page || turn !== this.#turn) return;
    const isShort = page.next && page.events.length < PAGE; // it looked far and did not find much
    const isFar = page.events.length && this.#events.size && !page.events.some(({ id }) => this.#events.has(id));
    if (isFar && !isShort) return this.load(); // more came than a page holds
    this.add(page.events);
    if (this.#things.length > MOST && scrollY < innerHeight) this.trim();
  }

  /** Give up rows at the end; they are asked for again by their time. */
  trim() {
    for (const { events } of this.#things.slice(MOST / 2)) for (const { id } of events) this.#events.delete(id);
    this.#next = { until: new Date(Date.parse(this.#things[MOST / 2 - 1].at) + 1).toISOString() };
    this.more.hidden = false;
    this.draw();
  }

  add(events) {
    this.suggest("label", events.map(({ label, person }) => label === person ? null : label));
    for (const event of events) this.#events.set(event.id, { ...event, body: { ...event.body, path: null } }); // no row needs it
    this.draw();
  }

  /** What was seen has one row, unless certain events are asked for. */
  draw() {
    this.#things = thingsOf([...this.#events.values()].filter((event) => !saysNothing(event)), this.#query.has("event"));
    const drawn = new Map([...this.list.children].map((section) => [section.dataset.day, section]));
    const sections = [...Map.groupBy(this.#things, ({ at }) => dayOf(at))].map(([day, things]) => {
      const section = drawn.get(day) ?? h("section", { dataset: { day } }, h("h2", {}, day), h("ol", { class: "rows cards" }));
      drawRows(section.lastChild, things, this.#query);
      return section;
    });
    keep(this.list, sections.length ? sections : [h("p", { class: "empty" }, text.events.empty)]);
  }
}

customElements.define("tl-events", Events);
