// What was seen, once: of the events of an object or a face one thing, and of a person and their face one together.

const SEEN = ["object", "face", "identity"];
const OPEN = "~"; // later than every moment: it is still there
const isTakenBack = ({ kind, event, body }) => kind === "identity" && event === "ended" && body.cause === "withdrawn";
const latestFirst = (one, other) => (one.at < other.at || (one.at === other.at && one.id < other.id) ? 1 : -1);

/**
 * Return what events tell of, the latest first: `events` of each, likewise; `at` of the latest; `head`, the one to show:
 * a body's rather than its face's; `face`, the latest with a picture of it; `name`, who it is; `key`, other when a row
 * would be. `alone`: each event is a thing of its own.
 */
export function thingsOf(all, alone = false) {
  const events = [...all].sort(latestFirst);
  const groups = new Map();
  const byTrack = new Map();
  for (const event of events) {
    const { stream, kind, track, at, body } = event;
    const isSeen = !alone && SEEN.includes(kind) && body?.first_seen;
    event.group = isSeen ? `${stream} ${kind} ${track} ${body.first_seen}` : event.id;
    if (!groups.has(event.group)) {
      groups.set(event.group, { stream, kind, track, at, since: body?.first_seen, over: event.event === "ended" ? at : OPEN, object: null, of: null, events: [] });
      if (isSeen) byTrack.set(`${stream} ${kind} ${track}`, [...byTrack.get(`${stream} ${kind} ${track}`) ?? [], groups.get(event.group)]);
    }
    groups.get(event.group).object ??= isSeen && body.best_face?.object;
  }
  // Each run begins numbers anew: whose a face is, is told by the time, too.
  const owner = ({ stream, since, at }, kind, track) => byTrack.get(`${stream} ${kind} ${track}`)?.find((one) => one.since <= at && since <= one.over) ?? null;
  for (const group of groups.values()) {
    if (group.kind === "identity") group.of = owner(group, "face", group.track);
    if (group.object) group.of ??= owner(group, "object", group.object);
  }
  const top = (group) => (group.of ? top(group.of) : group);
  for (const event of events) top(groups.get(event.group)).events.push(event);
  return [...groups.values()].filter(({ of }) => !of).map(described).sort((one, other) => latestFirst(one.events[0], other.events[0]));
}

function described({ events }) {
  const head = events.find(({ kind }) => kind === "object") ?? events.find(({ kind }) => kind === "face") ?? events[0];
  const face = events.find(({ kind, has_snapshot: isShown }) => isShown && (kind === "face" || kind === "identity")) ?? null;
  const told = events.find((event) => event.person || isTakenBack(event));
  const name = told && !isTakenBack(told) ? told.person : null;
  return { events, at: events[0].at, head, face, name, key: [head.id, head.clip, face?.id, name].join() };
}
