// Live: all streams in a grid, or one large with its figures; what happened just now beside it.

import { call, get, hub, isAdmin, part } from "./api.js";
import { attempt, h, icon, say, View } from "./dom.js";
import { drawRows } from "./event_row.js";
import { count, ms, sum } from "./format.js";
import "./picture.js";
import { streams } from "./streams.js";
import { text } from "./text.js";
import { thingsOf } from "./things.js";

const RECENT = 14;
const RECENT_KINDS = ["object", "identity", "zone", "line"];

/** One stream of the grid. */
class Tile {
  constructor(row, show) {
    this.picture = h("tl-picture", { ".show": show, ".stream": row });
    this.state = h("span", { class: "state" });
    this.figures = h("span", { class: "figures" });
    this.why = h("p", { class: "why" });
    this.element = h("a", { class: "tile", href: `#/live/${part(row.name)}`, "aria-label": text.live.open(row.name), dataset: { stream: row.name } },
      this.picture,
      h("span", { class: "tile-head" }, this.state, h("strong", { title: row.name }, row.name), this.figures),
      this.why);
    this.update(row);
  }

  update(row) {
    this.picture.stream = row;
    this.element.dataset.state = row.state;
    this.state.textContent = text.state[row.state];
    const p50 = row.latency_ms?.p50;
    this.figures.replaceChildren(...(row.state === "up" ? [text.rate(row.fps), p50 ? ms(p50) : "", sum(row.dropped) ? text.droppedCount(sum(row.dropped)) : ""] : []).filter(Boolean).map((words) => h("span", {}, words)));
    this.why.textContent = text.health[row.state](row.name, row.cause);
    this.why.hidden = row.state === "up";
  }
}

class Live extends View {
  #tiles = new Map();
  #name = "";
  #timer = 0;
  show = { boxes: true, zones: true };

  connectedCallback() {
    this.grid = h("div", { class: "grid" });
    this.figures = h("dl", {});
    this.switches = h("div", { class: "switches", role: "group", "aria-label": text.live.switches });
    this.edit = h("a", { class: "button" }, text.live.editZones);
    this.facts = h("section", { class: "card facts", hidden: true }, this.figures, ...(isAdmin() ? [this.switches, this.edit] : []));
    this.recent = h("ol", { class: "rows" });
    this.recentTitle = h("h2", {});
    this.heading = h("h1", {});
    this.back = h("a", { class: "button", href: "#/live", hidden: true, "aria-label": text.live.all }, icon("back"), h("span", { class: "wordy" }, text.live.all));
    this.full = h("button", { class: "toggle", "aria-label": text.live.full, onclick: () => this.#tiles.get(this.#name)?.picture.requestFullscreen().catch((error) => say(error.message, true)) }, icon("full"), h("span", { class: "wordy" }, text.live.full));
    this.more = h("a", { class: "small" }, text.live.allEvents);
    const toggle = (key) => h("button", { class: "toggle", "aria-pressed": "true", onclick: ({ currentTarget }) => this.toggle(key, currentTarget) }, text.live[key]);
    this.replaceChildren(
      h("header", { class: "head" }, this.back, this.heading, h("div", { class: "spring" }), toggle("boxes"), toggle("zones"), this.full),
      h("div", { class: "with-side" },
        h("div", { class: "stage" }, this.grid),
        h("aside", {}, this.facts, h("section", {}, h("header", { class: "head small" }, this.recentTitle, h("div", { class: "spring" }), this.more), this.recent))));
    this.listen(streams, "change", () => this.draw());
    this.listen(hub, "event", ({ detail }) => RECENT_KINDS.includes(detail.kind) && this.soon());
    this.listen(hub, "state", ({ detail }) => detail && this.soon());
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    clearTimeout(this.#timer);
  }

  route(name) {
    this.#name = name;
    this.switches.replaceChildren();
    this.recent.replaceChildren();
    this.draw();
    this.load();
  }

  toggle(key, button) {
    this.show[key] = !this.show[key];
    button.setAttribute("aria-pressed", String(this.show[key]));
    for (const tile of this.#tiles.values()) tile.picture.draw();
  }

  draw() {
    const names = new Set(streams.rows.map((row) => row.name));
    for (const [name, tile] of this.#tiles) if (!names.has(name)) { tile.element.remove(); this.#tiles.delete(name); }
    for (const row of streams.rows) {
      const tile = this.#tiles.get(row.name);
      if (tile) { tile.update(row); continue; }
      this.#tiles.set(row.name, new Tile(row, this.show));
      this.grid.append(this.#tiles.get(row.name).element);
    }
    if (!names.size) this.grid.replaceChildren(...(streams.loaded ? [h("p", { class: "empty" }, text.live.empty)] : []));
    else this.grid.querySelector(".empty")?.remove();
    const one = this.#tiles.has(this.#name);
    this.dataset.mode = one ? "one" : "all";
    for (const [name, tile] of this.#tiles) tile.element.classList.toggle("large", one && name === this.#name);
    this.back.hidden = !one;
    this.full.hidden = !one || !document.fullscreenEnabled; // a phone may not have it
    this.heading.textContent = one ? this.#name : text.views.live;
    this.recentTitle.textContent = one ? text.live.recentOf(this.#name) : text.live.recent;
    this.more.href = one ? `#/events?stream=${part(this.#name)}` : "#/events";
    this.facts.hidden = !one;
    if (one) this.drawFacts(streams.named(this.#name));
  }

  drawFacts(row) {
    const { facts, none, video } = text.live;
    const scene = hub.last(row.name)?.scene?.[0];
    const lines = [
      [facts.state, text.state[row.state]], [facts.rate, text.rate(row.fps)],
      ...["p50", "p99"].map((part) => [facts[part], row.latency_ms?.[part] ? ms(row.latency_ms[part]) : none]),
      [facts.captured, count(row.captured)], [facts.published, count(row.published)], [facts.dropped, sum(row.dropped) ? text.droppedBy(row.dropped) : none],
      [facts.size, row.size ? row.size.join(" × ") : none], [facts.video, video[row.video](row.codec)],
      [facts.scene, scene?.label.replaceAll("_", " ") ?? none],
    ];
    this.figures.replaceChildren(...lines.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
    this.edit.href = `#/zones/${part(row.name)}`;
  }

  /** Show the switches of the large stream as they are: a button for each, which keeps its place and the focus. */
  async loadSwitches() {
    const name = this.#name;
    const one = name && isAdmin() ? await get(`/api/streams/${part(name)}`).catch(() => null) : null;
    if (one && name === this.#name) this.drawSwitches(one.switches);
  }

  drawSwitches(states) {
    for (const [what, on] of Object.entries(states)) {
      let button = this.switches.querySelector(`[data-what="${what}"]`);
      if (!button) this.switches.append(button = h("button", { class: "toggle", dataset: { what }, onclick: () => this.switchOver(what, button) }, text.live.switch[what]));
      button.setAttribute("aria-pressed", String(on));
    }
  }

  async switchOver(what, button) {
    const [name, on] = [this.#name, button.getAttribute("aria-pressed") !== "true"];
    button.disabled = true; // a source may take its time to end
    await attempt(async () => {
      const states = await call("PUT", `/api/streams/${part(name)}/switches`, { [what]: on });
      if (name === this.#name) this.drawSwitches(states);
      say(text.live.switched(name, what, on));
    });
    button.disabled = false;
  }

  soon() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.load(), 500);
  }

  async load() {
    const name = this.#name;
    this.loadSwitches();
    const query = new URLSearchParams({ limit: 2 * RECENT });
    for (const kind of RECENT_KINDS) query.append("kind", kind);
    if (name) query.append("stream", name);
    const page = await get(`/api/events?${query}`).catch(() => null);
    if (!page || name !== this.#name) return;
    drawRows(this.recent, thingsOf(page.events).slice(0, RECENT), new URLSearchParams(name ? { stream: name } : {}));
    if (!page.events.length) this.recent.append(h("li", { class: "muted" }, text.live.nothing));
  }
}

customElements.define("tl-live", Live);
