// One event in a list.

import { h, icon } from "./dom.js";
import { percent, timeOf, whenOf } from "./format.js";
import { text } from "./text.js";

/** What the events of one thing that was seen have in common, from its first to its last; null of other events. */
export const thingOf = ({ stream, kind, track, body }) => (["object", "face"].includes(kind) && body?.first_seen ? `${kind} ${track} ${body.first_seen} ${stream}` : null);

/** Return a list item that leads to the event's detail; `query` stays in the address. */
export function eventRow(event, query) {
  const words = text.happened(event);
  const shown = event.has_snapshot
    ? h("img", { src: `/api/events/${event.id}/snapshot.jpg`, alt: "", loading: "lazy", decoding: "async" })
    : h("span", { class: "no-picture" }, icon({ identity: "people", face: "face", zone: "zones", line: "zones", scene: "live" }[event.kind] ?? "events"));
  const address = `#/events/${event.id}${query.size ? `?${query}` : ""}`;
  return h("li", { dataset: { id: event.id, kind: event.kind, at: event.at } },
    h("a", { class: "row", href: address },
      h("span", { class: "thumb" }, shown, event.clip && h("span", { class: "plays", title: text.events.hasClip }, icon("play"))),
      h("span", { class: "row-words" },
        h("strong", {}, words),
        h("span", { class: "muted row-place" }, h("span", {}, event.stream), h("time", { datetime: event.at, title: whenOf(event.at) }, timeOf(event.at))),
        event.clip && h("span", { class: "unseen" }, text.events.hasClip)),
      event.score !== null && h("span", { class: "score" }, percent(event.score))));
}
