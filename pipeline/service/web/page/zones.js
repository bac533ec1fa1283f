// Zones and lines, drawn on the live picture with mouse, touch or keyboard; the server checks them as the configuration.

import { call, get, part } from "./api.js";
import { attempt, h, s, say, View } from "./dom.js";
import { streams } from "./streams.js";
import { text } from "./text.js";

const STEP = 0.01; // of the picture, for an arrow key
const LARGE_STEP = 0.05;
const NEAR = 0.02; // as near as this, a point closes the zone
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const moved = (point, { key, shiftKey }) => point.map((value, axis) => within(value + ARROWS[key][axis] * (shiftKey ? LARGE_STEP : STEP)));
const within = (value) => Math.round(Math.min(1, Math.max(0, value)) * 10_000) / 10_000;
const near = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]) < NEAR;

class Zones extends View {
  #wanted = "";
  #name = "";
  #saved = "";
  shapes = []; // {kind, ...as in the configuration}
  drawing = null; // {kind, points}
  cross = [0.5, 0.5];

  connectedCallback() {
    this.select = h("select", { onchange: () => { location.hash = `#/zones/${part(this.select.value)}`; } });
    this.picture = h("tl-picture", { ".show": { boxes: true, zones: false } });
    this.surface = s("svg", { class: "surface", tabindex: "0", role: "application", "aria-label": text.zones.surface, viewBox: "0 0 1000 1000", preserveAspectRatio: "none",
      onpointerdown: (event) => this.press(event), onpointermove: (event) => this.move(event), onkeydown: (event) => this.key(event) });
    this.tags = h("div", { class: "tags", "aria-hidden": "true" });
    this.hint = h("p", { class: "muted", role: "status" });
    this.list = h("ul", { class: "shapes" });
    this.state = h("p", { class: "muted", role: "status" });
    const tool = (kind) => h("button", { class: "toggle", "aria-pressed": "false", disabled: true, dataset: { kind }, onclick: () => this.begin(kind) }, text.zones[kind]);
    this.tools = ["zone", "line"].map(tool);
    this.replaceChildren(
      h("header", { class: "head" }, h("h1", {}, text.views.zones), h("label", { class: "inline" }, text.zones.stream, this.select), h("div", { class: "spring" }), this.tools),
      h("div", { class: "with-side" },
        h("div", { class: "stage" }, h("div", { class: "editor" }, this.picture, this.tags, this.surface), this.hint),
        h("aside", { class: "card" }, this.list, this.state,
          h("div", { class: "inline" }, h("button", { class: "main", onclick: () => this.save() }, text.save), h("button", { onclick: () => this.load() }, text.zones.revert)))));
    this.listen(streams, "change", () => this.route(this.#wanted));
  }

  route(name) {
    this.#wanted = name;
    const row = streams.named(name) ?? streams.rows[0];
    if (!row) return;
    this.#wanted ||= row.name;
    this.select.replaceChildren(...streams.rows.map((one) => h("option", { ".selected": one.name === row.name }, one.name)));
    this.picture.stream = row;
    if (this.#name === row.name) return;
    this.#name = row.name;
    for (const tool of this.tools) tool.disabled = true; // what is drawn before the shapes are there would be lost
    this.load();
  }

  async load() {
    const isThere = await attempt(async () => {
      const { zones, lines } = await get(`/api/streams/${part(this.#name)}/zones`);
      this.shapes = [...zones.map((one) => ({ kind: "zone", ...one })), ...lines.map((one) => ({ kind: "line", ...one }))];
    });
    if (!isThere) return;
    for (const tool of this.tools) tool.disabled = false;
    this.#saved = this.#sent;
    this.drawing = null;
    this.drawList();
    this.draw();
  }

  get #sent() {
    const of = (kind) => this.shapes.filter((one) => one.kind === kind).map(({ kind: _, ...rest }) => rest);
    return JSON.stringify({ zones: of("zone"), lines: of("line") });
  }

  async save() {
    const names = this.shapes.map((one) => one.name);
    const twice = names.find((name, index) => names.indexOf(name) !== index);
    if (twice) return say(text.zones.sameName(twice), true);
    try {
      await call("PUT", `/api/streams/${part(this.#name)}/zones`, JSON.parse(this.#sent));
    } catch (error) {
      this.state.textContent = error.message;
      this.state.className = "error";
      return;
    }
    say(text.zones.saved);
    this.#saved = this.#sent;
    this.draw();
    streams.refresh();
  }

  begin(kind) {
    this.drawing = this.drawing?.kind === kind ? null : { kind, points: [] };
    this.cross = [0.5, 0.5];
    this.surface.focus();
    this.draw();
  }

  at(event) {
    const { left, top, width, height } = this.surface.getBoundingClientRect();
    return [within((event.clientX - left) / width), within((event.clientY - top) / height)];
  }

  press(event) {
    if (!this.drawing) return;
    event.preventDefault();
    this.surface.focus();
    this.cross = this.at(event);
    this.put();
  }

  move(event) {
    if (!this.drawing) return;
    this.cross = this.at(event);
    this.draw();
  }

  put() {
    const { kind, points } = this.drawing;
    const again = points.length > 0 && (near(this.cross, points.at(-1)) || near(this.cross, points[0]));
    if (again && kind === "zone" && points.length >= 3) return this.finish();
    if (again) return;
    points.push([...this.cross]);
    if (kind === "line" && points.length === 2) return this.finish();
    this.draw();
  }

  finish() {
    const { kind, points } = this.drawing;
    const name = kind === "zone" ? text.zones.newZone : text.zones.newLine;
    let number = 1;
    while (this.shapes.some((one) => one.name === name(number))) number += 1;
    this.shapes.push({ kind, name: name(number), points });
    this.drawing = null;
    this.drawList();
    this.draw();
    const field = this.list.lastElementChild.querySelector("input");
    field.focus();
    field.select();
  }

  key(event) {
    if (event.target !== this.surface || !this.drawing) return;
    if (event.key in ARROWS) this.cross = moved(this.cross, event);
    else if (event.key === "Enter" || event.key === " ") this.put();
    else if (event.key === "Backspace") this.drawing.points.pop();
    else if (event.key === "Escape") this.drawing = null;
    else return;
    event.preventDefault();
    this.draw();
  }

  /** A corner that can be dragged, and moved with the arrow keys. */
  handle(shape, index) {
    const [x, y] = shape.points[index];
    const change = (point) => { shape.points[index] = point; this.draw(); this.surface.querySelector(`[data-corner="${this.shapes.indexOf(shape)}-${index}"]`)?.focus(); };
    const keys = (event) => {
      if (event.key in ARROWS) change(moved(shape.points[index], event));
      else if (event.key === "Delete" && shape.kind === "zone" && shape.points.length > 3) { shape.points.splice(index, 1); this.draw(); this.surface.querySelector(".corner")?.focus(); }
      else if (event.key === "Enter" && shape.kind === "zone") {
        const after = shape.points[(index + 1) % shape.points.length];
        shape.points.splice(index + 1, 0, shape.points[index].map((value, axis) => within((value + after[axis]) / 2)));
        this.draw();
      } else return;
      event.preventDefault();
      event.stopPropagation();
    };
    const drag = (event) => {
      event.preventDefault();
      event.stopPropagation();
      this.surface.setPointerCapture(event.pointerId);
      const over = new AbortController();
      this.surface.addEventListener("pointermove", (pointed) => change(this.at(pointed)), { signal: over.signal });
      for (const end of ["pointerup", "pointercancel"]) this.surface.addEventListener(end, () => over.abort(), { signal: over.signal });
    };
    // An ellipse of its own size in both directions: the drawing is stretched over the picture.
    return s("ellipse", { class: "corner", cx: x * 1000, cy: y * 1000, ...this.radii(7), tabindex: "0", role: "button", "aria-label": text.zones.corner(shape.name, index + 1),
      "data-corner": `${this.shapes.indexOf(shape)}-${index}`, onkeydown: keys, onpointerdown: (event) => !this.drawing && drag(event) });
  }

  radii(pixels) {
    const { width, height } = this.surface.getBoundingClientRect();
    return { rx: (pixels * 1000) / (width || 1000), ry: (pixels * 1000) / (height || 1000) };
  }

  draw() {
    const line = (points) => points.map(([x, y]) => `${x * 1000},${y * 1000}`).join(" ");
    const parts = this.shapes.flatMap((shape) => [
      s(shape.kind === "zone" ? "polygon" : "polyline", { class: `shape ${shape.kind}`, points: line(shape.points) }),
      shape.kind === "line" && this.arrow(shape.points),
      ...shape.points.map((_, index) => this.handle(shape, index))]);
    if (this.drawing) {
      const { kind, points } = this.drawing;
      parts.push(s("polyline", { class: `shape open ${kind}`, points: line([...points, this.cross]) }), ...points.map(([x, y]) => s("ellipse", { class: "corner", cx: x * 1000, cy: y * 1000, ...this.radii(5) })));
      const [x, y] = this.cross.map((value) => value * 1000);
      parts.push(s("path", { class: "cross", d: `M${x} 0V1000M0 ${y}H1000` }));
    }
    this.surface.replaceChildren(...parts.filter(Boolean));
    this.tags.replaceChildren(...this.shapes.map(({ kind, name, points }) => {
      const [x, y] = points.reduce((best, one) => (one[1] < best[1] ? one : best));
      return h("span", { class: `tag ${kind}`, style: { left: `${x * 100}%`, top: `${y * 100}%` } }, name);
    }));
    this.surface.classList.toggle("drawing", Boolean(this.drawing));
    for (const tool of this.tools) tool.setAttribute("aria-pressed", String(this.drawing?.kind === tool.dataset.kind));
    const { hintZone, hintLine, hintEdit } = text.zones;
    this.hint.textContent = this.drawing ? (this.drawing.kind === "zone" ? hintZone : hintLine) : this.shapes.length ? hintEdit : "";
    this.state.className = "muted";
    this.state.textContent = this.#sent === this.#saved ? "" : text.zones.unsaved;
  }

  /** From the middle of a line to its side b: to the right of whoever walks from the first point to the second. */
  arrow([[x0, y0], [x1, y1]]) {
    const { width, height } = this.surface.getBoundingClientRect();
    const [wide, high] = [width || 1000, height || 1000];
    const [dx, dy] = [(x1 - x0) * wide, (y1 - y0) * high];
    const long = Math.hypot(dx, dy) || 1;
    const to = ([along, side]) => [(((x0 + x1) / 2) * wide + (dx * along - dy * side) / long) * (1000 / wide), (((y0 + y1) / 2) * high + (dy * along + dx * side) / long) * (1000 / high)];
    const [from, tip, left, right] = [[0, 0], [0, 26], [-6, 17], [6, 17]].map(to);
    return s("path", { class: "shape line arrow", d: `M${from}L${tip}M${left}L${tip}L${right}` });
  }

  drawList() {
    const { zones } = text;
    this.list.replaceChildren(...this.shapes.map((shape) => {
      const field = (label, props, change) => h("label", {}, label, h("input", { ...props, onchange: ({ target }) => { change(target.value.trim()); this.draw(); } }));
      return h("li", { class: `shape-row ${shape.kind}` },
        field(zones.name, { value: shape.name, required: true, maxlength: "64" }, (value) => { if (value) shape.name = value; }),
        field(zones.labels, { value: shape.labels?.join(", ") ?? "", placeholder: zones.anyLabel }, (value) => { shape.labels = value ? value.split(",").map((one) => one.trim()).filter(Boolean) : undefined; }),
        shape.kind === "zone" ? field(zones.dwell, { type: "number", min: "0", step: "1", value: shape.dwell_s ?? "", placeholder: zones.never }, (value) => { shape.dwell_s = value ? Number(value) : undefined; }) : h("p", { class: "muted small" }, zones.crossing),
        h("button", { onclick: () => { this.shapes.splice(this.shapes.indexOf(shape), 1); this.drawList(); this.draw(); } }, zones.remove));
    }));
    if (!this.shapes.length) this.list.replaceChildren(h("li", { class: "empty" }, zones.empty));
  }
}

customElements.define("tl-zones", Zones);
