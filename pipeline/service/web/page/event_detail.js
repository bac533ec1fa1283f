// One event: its clip with boxes drawn over it, or its snapshot; its facts; what can be done with it.

import { call, get, isAdmin, part } from "./api.js";
import { attempt, dialog, h, icon, say } from "./dom.js";
import { duration, percent, whenOf } from "./format.js";
import { Overlay } from "./overlay.js";
import { text } from "./text.js";
import { thingsOf } from "./things.js";

const [ROUNDING_S, HELD_S] = [0.006, 1]; // of capture times; how long a picture's boxes are shown without others
const BEFORE_S = 3; // how long before its event a clip is played

/**
 * Show an event's dialog; Return it, or null where the event is gone. `thing`: what it tells of, where that is known;
 * `newer`, `older`: addresses or null; `removed`, told the numbers of what was deleted, and `changed`: callbacks.
 */
export async function showEvent(id, thing, newer, older, removed, changed) {
  const event = await get(`/api/events/${id}`).catch((error) => say(error.status === 404 ? text.events.gone : error.message, true));
  if (!event) return null;
  const { events, face, name } = thing ?? thingsOf([event])[0];
  event.person ??= name;
  const words = text.happened(event);
  const step = (address, label, picture) => h("a", { class: "button", href: address ?? "", "aria-label": label, title: label, hidden: !address }, icon(picture));
  const box = dialog(words, text.close,
    event.clip ? clip(event, words) : event.has_snapshot && h("img", { class: "snapshot", src: `/api/events/${id}/snapshot.jpg`, alt: text.events.snapshotOf(words) }),
    facts(event),
    h("footer", {},
      step(newer, text.events.newer, "back"), step(older, text.events.older, "next"), h("div", { class: "spring" }),
      event.clip && h("a", { class: "button", href: `/api/events/${id}/clip.mp4`, download: `trunkline-${id}.mp4` }, text.events.download),
      event.has_snapshot && h("a", { class: "button", href: `/api/events/${id}/snapshot.jpg`, download: `trunkline-${id}.jpg` }, text.events.downloadSnapshot),
      isAdmin() && face && !event.person && h("a", { class: "button", href: "#/people" }, text.events.who),
      isAdmin() && event.person && h("button", { onclick: () => takeBack(event.person, event.id, events, box, changed) }, text.events.notThem(event.person)),
      isAdmin() && h("button", { class: "danger", onclick: () => remove(events, box, removed) }, text.events.remove)));
  box.dataset.id = id;
  box.addEventListener("keydown", ({ key, target }) => {
    const address = target.tagName === "VIDEO" ? null : { ArrowLeft: newer, ArrowRight: older }[key];
    if (address) location.hash = address;
  });
  return box;
}

/** An event does not show that person: what it, and all that tell of the same, taught is taken back, the `known` ones and others. */
async function takeBack(person, id, known, box, changed) {
  const isDone = await attempt(async () => {
    const since = known.map(({ at, body }) => body.first_seen ?? at).sort()[0];
    const { events } = await get(`/api/events?${new URLSearchParams({ stream: known[0].stream, person, since, limit: 1000 })}`);
    const all = new Map([...events, ...known].map((one) => [one.id, one]));
    const told = thingsOf(all.values()).find((thing) => thing.events.some((one) => one.id === id)).events;
    for (const one of told.filter((each) => each.person === person)) await call("DELETE", `/api/people/${part(person)}/views/${one.id}`);
  });
  if (!isDone) return;
  box.close();
  changed();
  say(text.events.takenBack(person));
}

async function remove(events, box, removed) {
  const ids = events.map(({ id }) => id);
  if (!confirm(text.events.sure) || !await attempt(async () => { for (const id of ids) await call("DELETE", `/api/events/${id}`); })) return;
  removed(ids);
  box.close();
  say(text.events.removed);
}

function facts(event) {
  const { facts: names } = text.events;
  const { body } = event;
  const lines = [
    [names.at, whenOf(event.at)], [names.stream, event.stream], [names.label, event.label === event.person ? null : event.label], [names.person, event.person], [names.place, event.place],
    [names.direction, body.direction && text.direction[body.direction]], [names.score, event.score === null ? null : percent(event.score)],
    [names.best, body.best_score ? percent(body.best_score) : null], [names.duration, body.duration_s ? duration(body.duration_s) : null],
    [names.first, body.first_seen && whenOf(body.first_seen)], [names.last, body.last_seen && whenOf(body.last_seen)],
    [names.cause, body.cause && text.causes[body.cause]], [names.track, event.track],
    [names.counts, body.counts && Object.entries(body.counts).map(([side, by]) => `${text.direction[side] ?? side}: ${Object.entries(by).map(([label, number]) => `${number} ${label}`).join(", ")}`).join("; ")],
  ];
  return h("dl", { class: "facts" }, lines.filter(([, value]) => value !== null && value !== undefined && value !== "").map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, String(value)))));
}

/** The clip, and over it what was seen in the picture that is shown. */
function clip(event, words) {
  const address = `/api/events/${event.id}/clip.mp4`;
  const trouble = h("p", { class: "picture-note", hidden: true }, text.events.brokenClip);
  const video = h("video", { src: address, controls: true, ".muted": true, autoplay: true, playsinline: true, "aria-label": `${text.events.clip}: ${words}`, onerror: () => { trouble.hidden = false; } });
  const overlay = new Overlay(h("canvas", { "aria-hidden": "true" }));
  // The server may tell when the clip's first picture was taken. Events share a clip: it is played from this one on.
  fetch(address, { headers: { Range: "bytes=0-0" } }).then((answer) => {
    const from = (Date.parse(event.body.first_seen ?? event.at) - Date.parse(answer.headers.get("X-Captured-At"))) / 1000 - BEFORE_S;
    if (from > 0) video.currentTime = from;
  }).catch(() => {});
  // What was seen in each frame, where the run has kept it.
  let frames = [];
  get(`/api/events/${event.id}/boxes`).then((seen) => { frames = seen; }).catch(() => {});
  const shown = (_, { mediaTime }) => {
    if (video.isConnected) video.requestVideoFrameCallback(shown);
    const seen = frames.length ? seenAt(frames, mediaTime) : null;
    if (!overlay.begin(seen?.size ?? [video.videoWidth, video.videoHeight])) return;
    if (seen) overlay.frame(named(seen, event), othersThan(event, seen));
  };
  video.requestVideoFrameCallback(shown);
  return h("div", { class: "clip" }, video, overlay.canvas, trouble);
}

/** What was seen in the picture of that media time, or in the last one before it. */
function seenAt(frames, mediaTime) {
  const after = frames.findIndex((one) => one.at_s > mediaTime + ROUNDING_S);
  const seen = after < 0 ? frames.at(-1) : frames[after - 1];
  return seen && mediaTime - seen.at_s < HELD_S ? seen : null;
}

/** The same with the name that the event tells: none is kept beside a clip. */
function named(seen, { kind, track, person }) {
  const known = (face) => person && (kind === "object" ? face.object : face.track) === track;
  return { ...seen, faces: seen.faces.map((face) => ({ ...face, identity: known(face) ? { name: person } : null })) };
}

/** What is not the event's own track: the object, or a face with the person it belongs to; nothing of a scene's, or where it is not seen. */
function othersThan({ kind, track }, { objects, faces }) {
  const ofFace = kind === "face" || kind === "identity";
  const own = (ofFace ? faces : objects).find((one) => one.track === track);
  if (kind === "scene" || !own) return () => false;
  const object = ofFace ? own.object : track;
  return (other, isFace) => isFace ? (ofFace ? other !== track : faces.find((face) => face.track === other).object !== track) : other !== object;
}
