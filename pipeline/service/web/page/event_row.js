// What was seen, or happened, in a list.

import { h, icon } from "./dom.js";
import { percent, timeOf, whenOf } from "./format.js";
import { text } from "./text.js";

const shot = (event, props = {}) => h("img", { src: `/api/events/${event.id}/snapshot.jpg`, alt: "", loading: "lazy", decoding: "async", ...props });

/** Return a list item that leads to the detail of a thing's event; `query` stays in the address. */
export function eventRow({ head, face, name, at, key }, query) {
  const shown = head.has_snapshot ? shot(head)
    : h("span", { class: "no-picture" }, icon({ identity: "people", face: "face", zone: "zones", line: "zones", scene: "live" }[head.kind] ?? "events"));
  const address = `#/events/${head.id}${query.size ? `?${query}` : ""}`;
  return h("li", { dataset: { id: head.id, kind: head.kind, at, key } },
    h("a", { class: "row", href: address },
      h("span", { class: "thumb" }, shown, head.kind === "object" && face && shot(face, { class: "of-face" }), head.clip && h("span", { class: "plays", title: text.events.hasClip }, icon("play"))),
      h("span", { class: "row-words" },
        h("strong", {}, text.happened({ ...head, person: name ?? head.person })),
        h("span", { class: "muted row-place" }, h("span", {}, head.stream), h("time", { datetime: at, title: whenOf(at) }, timeOf(at))),
        head.clip && h("span", { class: "unseen" }, text.events.hasClip)),
      head.score !== null && h("span", { class: "score" }, percent(head.score))));
}

/** Show these rows of things in a list; what is there already stays as it is, and so does the focus. */
export function drawRows(list, things, query) {
  const known = new Map([...list.children].map((row) => [row.dataset.key, row]));
  keep(list, things.map((thing) => known.get(thing.key) ?? eventRow(thing, query)));
}

/** Let an element have these children in this order; those that it has are not moved without need. */
export function keep(parent, children) {
  const wanted = new Set(children);
  for (const old of [...parent.children]) if (!wanted.has(old)) old.remove();
  children.forEach((child, at) => parent.children[at] !== child && parent.insertBefore(child, parent.children[at] ?? null));
}
