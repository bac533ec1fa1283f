// System: what the server tells of itself, whatever that is; and who may come in.

import { call, get, part, post, session } from "./api.js";
import { attempt, h } from "./dom.js";
import { bytes, count, whenOf } from "./format.js";
import { text } from "./text.js";

const EVERY_MS = 5000;
const LONG = 44; // characters that stand beside their name
const isPlain = (value) => value === null || typeof value !== "object";
const isHistogram = (value) => Array.isArray(value?.counts) && Array.isArray(value?.bounds_ms);
const ELSEWHERE = ["zones", "lines", "id"]; // of a stream, on a page of their own; of a row, nothing that people read
const words = (key) => key.replaceAll("_", " ");

class System extends HTMLElement {
  connectedCallback() {
    this.facts = h("div", { class: "system" }, h("p", { class: "muted", role: "status" }, text.system.looking));
    this.access = h("div", { class: "system" });
    this.replaceChildren(h("header", { class: "head" }, h("h1", {}, text.views.system)), this.facts, ...(session.loopback ? [] : [h("h2", {}, text.system.access), this.access]));
  }

  disconnectedCallback() {
    clearTimeout(this.timer);
  }

  route() {
    this.load();
    if (!session.loopback) this.loadAccess();
  }

  async load() {
    clearTimeout(this.timer);
    try {
      const facts = await get("/api/system");
      const held = this.facts.querySelector("pre");
      const focused = [...this.facts.querySelectorAll("[tabindex]")].indexOf(document.activeElement);
      const atEnd = !held || held.scrollTop + held.clientHeight >= held.scrollHeight - 4;
      const { machine, ...others } = facts;
      const looking = machine === null ? [h("p", { class: "muted wide", role: "status" }, text.system.looking)] : [];
      this.facts.replaceChildren(...looking, ...cards(machine ? facts : others, "run"));
      this.facts.querySelectorAll("[tabindex]")[focused]?.focus({ preventScroll: true });
      const log = this.facts.querySelector("pre");
      if (log) log.scrollTop = atEnd ? log.scrollHeight : held.scrollTop;
    } catch (error) {
      if (error.status) this.facts.replaceChildren(h("p", { class: "error", role: "alert" }, error.message));
    }
    if (this.isConnected) this.timer = setTimeout(() => this.load(), EVERY_MS);
  }

  loadAccess() {
    return attempt(async () => this.drawAccess(...await Promise.all([get("/api/users"), get("/api/tokens").catch(() => []), get("/api/audit")])));
  }

  change(action) {
    return attempt(async () => {
      const answer = await action();
      const { tokenOnce, userOnce } = text.system;
      this.once = answer?.token ? tokenOnce(answer.token) : answer?.password ? userOnce(answer.name, answer.password) : "";
      await this.loadAccess();
    });
  }

  drawAccess(users, tokens, audit) {
    const { system } = text;
    const add = (path, event) => {
      event.preventDefault();
      const { streams, days, ...given } = Object.fromEntries(new FormData(event.target));
      const names = streams.split(",").map((one) => one.trim()).filter(Boolean);
      return this.change(() => post(path, { ...given, streams: names, ...(days ? { days: Number(days) } : {}) }));
    };
    const fields = (name) => [
      h("label", {}, name, h("input", { name: "name", required: true, autocomplete: "off" })),
      h("label", {}, system.role, h("select", { name: "role" }, h("option", {}, "viewer"), h("option", {}, "admin"))),
      h("label", {}, system.streamsOf, h("input", { name: "streams" }))];
    const rows = (all, key, path, sure) => h("ul", { class: "rows" }, all.map((one) => h("li", { class: "row" },
      h("span", { class: "row-words" }, h("strong", {}, one.name), h("span", { class: "muted" }, Object.entries(one).filter(([name]) => name !== "name" && name !== "id").map(([name, value]) => `${words(name)}: ${shown(value, name)}`).join(" · "))),
      h("button", { onclick: () => confirm(sure(one.name)) && this.change(() => call("DELETE", `${path}/${part(one[key])}`)) }, system.remove))));
    this.access.replaceChildren(
      ...(this.once ? [h("p", { class: "token wide", role: "status" }, this.once)] : []),
      h("section", { class: "card" }, h("h2", {}, system.users), rows(users, "name", "/api/users", system.sureUser),
        h("form", { class: "stack", onsubmit: (event) => add("/api/users", event) }, fields(system.user), h("button", {}, system.addUser))),
      h("section", { class: "card" }, h("h2", {}, system.tokens), rows(tokens, "id", "/api/tokens", () => system.sureToken),
        h("form", { class: "stack", onsubmit: (event) => add("/api/tokens", event) }, fields(system.tokenName), h("label", {}, system.days, h("input", { name: "days", type: "number", min: "1", value: "90" })), h("button", {}, system.addToken))),
      section(system.audit, list(system.audit, audit), true));
  }
}

const DATE = /^\d{4}-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:\d\d)$/;

function shown(value, key = "") {
  const { none, yes, no } = text.system;
  if (value === null || value === undefined || value === "") return none;
  if (typeof value === "boolean") return value ? yes : no;
  if (typeof value === "string" && DATE.test(value)) return whenOf(value);
  if (typeof value === "number") return key.endsWith("bytes") ? bytes(value) : Number.isInteger(value) ? count(value) : String(Math.round(value * 100) / 100);
  if (isPlain(value)) return String(value);
  if (Array.isArray(value)) return value.map((one) => shown(one)).join(key === "size" ? " × " : ", ") || none;
  return Object.entries(value).filter(([, one]) => one !== null).map(([name, one]) => `${words(name)} ${shown(one, name)}`).join(", ") || none;
}

/** Cards of whatever it is: what is plain in one under that title, and each thing that has parts in one of its own. */
function cards(facts, title) {
  const entries = Object.entries(facts);
  const isShort = (value) => Array.isArray(value) && value.every(isPlain) && value.join().length <= LONG;
  const plain = entries.filter(([, value]) => isPlain(value) || !Object.keys(value).length || isShort(value));
  const named = text.system.parts[title] ?? words(title);
  return [
    ...(plain.length ? [section(named, h("dl", {}, plain.map(([key, value]) => fact(key, value))))] : []),
    ...entries.filter((entry) => !plain.includes(entry)).flatMap(([key, value]) => {
      if (isHistogram(value)) return [section(words(key), histogram(key, value))];
      return Array.isArray(value) ? [section(text.system.parts[key] ?? words(key), list(key, value), true)] : cards(value, key);
    })];
}

function fact(key, value) {
  const told = shown(value, key);
  return h("div", { class: told.length > LONG ? "long" : "" }, h("dt", {}, words(key.replace(/_bytes$/, ""))), h("dd", {}, told));
}

function section(title, content, wide = false) {
  return h("section", { class: wide ? "card wide" : "card" }, h("h2", {}, title), content);
}

/** Lines of a log, or rows. */
function list(title, values) {
  return values.every(isPlain) ? h("pre", { tabindex: "0", "aria-label": title }, values.map((one) => shown(one)).join("\n")) : table(values);
}

function table(rows) {
  const all = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  const pictures = all.filter((name) => rows.some((row) => isHistogram(row[name])));
  const columns = all.filter((name) => !pictures.includes(name) && !ELSEWHERE.includes(name));
  return [pictures.length > 0 && h("div", { class: "system" }, rows.flatMap((row) => pictures.filter((name) => isHistogram(row[name]) && row[name].counts.some(Boolean)).map((name) => histogram(`${row.name ?? ""} ${name}`, row[name])))), h("div", { class: "table", tabindex: "0" }, h("table", {}, h("thead", {}, h("tr", {}, columns.map((name) => h("th", { scope: "col" }, words(name))))),
    h("tbody", {}, rows.map((row) => h("tr", {}, columns.map((name) => h("td", {}, shown(row[name], name))))))))];
}

/** Bars of {bounds_ms: upper bounds, counts: one more than bounds}. */
function histogram(name, { bounds_ms: bounds, counts }) {
  const most = Math.max(1, ...counts);
  const total = counts.reduce((all, one) => all + one, 0);
  const { upTo, above, histogram: label } = text.system;
  return h("figure", { class: "histogram" }, h("figcaption", {}, label(words(name), total)),
    h("div", { class: "bars", role: "img", "aria-label": counts.map((one, index) => `${index < bounds.length ? upTo(bounds[index]) : above(bounds.at(-1))}: ${one}`).join(", ") },
      counts.map((one, index) => h("span", { title: `${index < bounds.length ? upTo(bounds[index]) : above(bounds.at(-1))}: ${one}`, style: { height: `${Math.max(one ? 2 : 0, (100 * one) / most)}%` } }))),
    h("div", { class: "axis", "aria-hidden": "true" }, ["0", bounds[Math.ceil(bounds.length / 2) - 1], `${bounds.at(-1)} ms`].map((tick) => h("span", {}, String(tick)))));
}

customElements.define("tl-system", System);
