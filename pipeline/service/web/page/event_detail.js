// One event: its clip with the way of the track drawn over it, or its snapshot; its facts; what can be done with it.

import { call, get, isAdmin, part } from "./api.js";
import { dialog, h, icon, say } from "./dom.js";
import { duration, percent, whenOf } from "./format.js";
import { colourOf, Overlay } from "./overlay.js";
import { text } from "./text.js";

const [ROUNDING_S, HELD_S] = [0.006, 1]; // of capture times; how long a picture's boxes are shown without others
const BEFORE_S = 3; // how long before its event a clip begins, where the server does not say when it does

/** Show an event's dialog; Return it, or null where the event is gone. `newer`, `older`: addresses or null; `all`: numbers of what is deleted with it; `removed`, `changed`: told. */
export async function showEvent(id, newer, older, all, removed, changed) {
  let event;
  try {
    event = await get(`/api/events/${id}`);
  } catch (error) {
    say(error.status === 404 ? text.events.gone : error.message, true);
    return null;
  }
  const words = text.happened(event);
  const step = (address, label, picture) => h("a", { class: "button", href: address ?? "", "aria-label": label, title: label, hidden: !address }, icon(picture));
  const box = dialog(words, text.close,
    event.clip ? clip(event, words) : event.has_snapshot ? h("img", { class: "snapshot", src: `/api/events/${id}/snapshot.jpg`, alt: text.events.snapshotOf(words) }) : way(event),
    facts(event),
    h("footer", {},
      step(newer, text.events.newer, "back"), step(older, text.events.older, "next"), h("div", { class: "spring" }),
      event.clip && h("a", { class: "button", href: `/api/events/${id}/clip.mp4`, download: `trunkline-${id}.mp4` }, text.events.download),
      event.has_snapshot && h("a", { class: "button", href: `/api/events/${id}/snapshot.jpg`, download: `trunkline-${id}.jpg` }, text.events.downloadSnapshot),
      isAdmin() && event.kind === "face" && !event.person && h("a", { class: "button", href: "#/people" }, text.events.who),
      isAdmin() && event.person && h("button", { onclick: () => takeBack(event, box, changed) }, text.events.notThem(event.person)),
      isAdmin() && h("button", { class: "danger", onclick: () => remove(all, box, removed) }, text.events.remove)));
  box.dataset.id = id;
  box.addEventListener("keydown", ({ key, target }) => {
    const address = target.tagName === "VIDEO" ? null : { ArrowLeft: newer, ArrowRight: older }[key];
    if (address) location.hash = address;
  });
  return box;
}

/** This event does not show that person: what it taught is taken back. */
async function takeBack({ id, person }, box, changed) {
  try {
    await call("DELETE", `/api/people/${part(person)}/views/${id}`);
  } catch (error) {
    return say(error.message, true);
  }
  box.close();
  changed();
  say(text.events.takenBack(person));
}

async function remove(ids, box, removed) {
  if (!confirm(text.events.sure)) return;
  try {
    for (const id of ids) await call("DELETE", `/api/events/${id}`);
  } catch (error) {
    return say(error.message, true);
  }
  removed();
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

/** The clip, and over it where the track was at the time that is shown. */
function clip(event, words) {
  const address = `/api/events/${event.id}/clip.mp4`;
  const trouble = h("p", { class: "picture-note", hidden: true }, text.events.brokenClip);
  const video = h("video", { src: address, controls: true, ".muted": true, autoplay: true, playsinline: true, "aria-label": `${text.events.clip}: ${words}`, onerror: () => { trouble.hidden = false; } });
  const overlay = new Overlay(h("canvas", { "aria-hidden": "true" }));
  let began = Date.parse(event.body.first_seen ?? event.at) - BEFORE_S * 1000;
  // The server may tell when the clip's first picture was taken. Events share a clip: it is played from this one on.
  fetch(address, { headers: { Range: "bytes=0-0" } }).then((answer) => {
    began = Date.parse(answer.headers.get("X-Captured-At")) || began;
    const from = (Date.parse(event.body.first_seen ?? event.at) - began) / 1000 - BEFORE_S;
    if (from > 0) video.currentTime = from;
  }).catch(() => {});
  // What was seen in each frame, where the run has kept it; else the way of the track.
  let frames = [];
  get(`/api/events/${event.id}/boxes`).then((seen) => { frames = seen; }).catch(() => {});
  const shown = (_, { mediaTime }) => {
    if (video.isConnected) video.requestVideoFrameCallback(shown);
    const seen = frames.length ? seenAt(frames, mediaTime) : null;
    if (!overlay.begin(seen?.size ?? [video.videoWidth, video.videoHeight])) return;
    if (seen) overlay.frame(named(seen, event), othersThan(event, seen));
    else if (!frames.length) drawTrack(overlay, event, (began + mediaTime * 1000 - Date.parse(event.body.first_seen)) / 1000);
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
  const known = (face) => person && (kind === "face" || kind === "identity") && face.track === track;
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

function drawTrack(overlay, event, seconds) {
  const { path, box } = event.body;
  const colour = colourOf(event.label);
  const here = path && overlay.path(path, seconds, colour);
  if (!here || !box) return;
  // The path says where the foot of an object is, or the middle of a face; the box keeps its last size.
  const [wide, high] = [box[2] - box[0], box[3] - box[1]];
  const top = event.kind === "object" ? here[1] - high : here[1] - high / 2;
  overlay.box([here[0] - wide / 2, top, here[0] + wide / 2, top + high], colour, event.person || event.label || "");
}

/** Without clip and snapshot: the way alone. */
function way(event) {
  const { path, box } = event.body;
  if (!path?.length) return null;
  const overlay = new Overlay(h("canvas", { role: "img", "aria-label": text.events.wayThrough }));
  const xs = path.map(([, x]) => x).concat(box ? [box[0], box[2]] : []);
  const ys = path.map(([, , y]) => y).concat(box ? [box[1], box[3]] : []);
  const size = [Math.max(...xs) * 1.1, Math.max(...ys) * 1.1];
  requestAnimationFrame(() => overlay.begin(size) && drawTrack(overlay, event, path.at(-1)[0]));
  return h("div", { class: "clip way" }, overlay.canvas);
}
