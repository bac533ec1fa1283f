// All words of the page, in English. What is a function takes what the sentence is about.

const capital = (words) => (words ? words[0].toUpperCase() + words.slice(1) : "");
const many = (number, one, more = `${one}s`) => `${Number(number).toLocaleString()} ${number === 1 ? one : more}`;

export const text = {
  title: "Trunkline", views: { live: "Live", events: "Events", people: "People", zones: "Zones", system: "System" },
  skip: "Skip to the content", navigation: "Views", logout: "Log out", close: "Close", save: "Save", loading: "Loading …", today: "Today", yesterday: "Yesterday",
  theme: { auto: "Colours: as the system", dark: "Colours: dark", light: "Colours: light" },
  away: "Trunkline does not answer. The page tries again by itself.", lost: "The connection to Trunkline is lost. The page tries again by itself.",
  refused: (status) => `The server refused with status ${status}.`,
  many,
  login: {
    title: "Log in", user: "Name", password: "Password", changed: "New password", submit: "Log in",
    hint: "The first start of Trunkline printed a password for the administrator.",
  },
  live: {
    empty: "No streams yet. Start a run, and they appear here.",
    boxes: "Boxes", zones: "Zones", all: "All streams", full: "Full screen", recent: "Just now", nothing: "Nothing has happened yet.", recentOf: (name) => `Latest of ${name}`, allEvents: "All events",
    open: (name) => `${name}, show it large`, editZones: "Edit zones and lines",
    switches: "Switches", switch: { detect: "Detection", record: "Recording" },
    switched: (name, what, on) => `${{ detect: "Detection", record: "Recording" }[what]} of ${name} is ${on ? "on" : "off"}.`,
    facts: {
      state: "State", rate: "Rate", p50: "Latency, median", p99: "Latency, 99 of 100", captured: "Captured", published: "Published",
      dropped: "Dropped", size: "Picture", video: "Video", scene: "Scene",
    },
    video: { mse: (codec) => `as the camera sends it (${codec ?? "H.264"})`, mjpeg: () => "single pictures (MJPEG)", none: () => "none" },
    none: "none",
  },
  state: { up: "Live", down: "Down", ended: "Ended", unknown: "Waiting" },
  health: {
    up: () => "", down: (name, cause) => `${name} is down: ${cause || "no cause is known"}. Trunkline keeps trying.`,
    ended: (name, cause) => `${name} has ended: ${cause || "no more pictures"}.`, unknown: (name) => `Nothing has been heard from ${name} yet.`,
  },
  rate: (fps) => `${(fps ?? 0).toFixed(1)} /s`,
  droppedBy: (counts) => Object.entries(counts).map(([cause, number]) => `${number.toLocaleString()} ${cause}`).join(", "),
  droppedCount: (number) => `${number.toLocaleString()} dropped`, pictureOf: (name) => `Live picture of ${name} with boxes`,
  noVideo: "No video of this stream: boxes alone.",
  cannotPlay: (type) => `This browser cannot play ${type.replace(/.*codecs="?([^"]*).*/, "$1")}: single pictures instead.`,
  pictureWhenLarge: "Open this stream for its picture.", noPicture: (why) => `No picture: ${why}`, noLength: "a picture came without its length",
  events: {
    empty: "Nothing fits these filters yet. New events appear here by themselves.",
    filters: "Filters", clear: "Clear filters", more: "Show earlier events", link: "The address holds the filters: share it as it is.",
    fields: {
      stream: "Stream", event: "What happened", kind: "Of what", label: "Label", person: "Person", place: "Zone or line",
      min_score: "Score at least", since: "From", until: "Until",
    },
    any: "any", presets: { all: "Everything", seen: "Seen", named: "Recognised", places: "Zones and lines" },
    names: { new: "new", changed: "changed", ended: "ended", enter: "entered", leave: "left", dwell: "stayed", cross: "crossed" },
    kinds: { object: "objects", face: "faces", identity: "people", scene: "scenes", zone: "zones", line: "lines" }, list: "Events, newest first",
    snapshotOf: (words) => `Snapshot: ${words}`, clip: "Clip", hasClip: "with clip",
    download: "Download clip", downloadSnapshot: "Download snapshot", remove: "Delete",
    sure: "Delete this event with its snapshot and clip?", removed: "The event is deleted.",
    newer: "Newer event", older: "Older event", who: "Who is this?",
    facts: {
      at: "When", stream: "Stream", label: "Label", person: "Person", place: "Where", score: "Score", best: "Best score", duration: "Duration",
      first: "First seen", last: "Last seen", cause: "Why it ended", direction: "Direction", track: "Track", counts: "Counts after it",
    },
    gone: "This event is not there any more.",
    notThem: (name) => `This is not ${name}`, takenBack: (name) => `Taken back: what this event taught of ${name}, and the name.`,
    brokenClip: "The clip cannot be played; it may still be written, or be damaged.",
  },
  timeline: {
    strip: "When it happened. Arrow keys move, Enter shows that time alone, Escape all times.",
    earlier: "Earlier", later: "Later", whole: "Show this day alone", nothing: "nothing", noLabel: "faces", counted: (label, number) => `${label} ${number.toLocaleString()}`,
  },
  direction: { a_to_b: "a to b", b_to_a: "b to a" },
  causes: {
    gone: "not seen any more", left: "left", down: "the stream was lost", cut: "the picture changed",
    stopped: "the run ended", crash: "a process was killed", withdrawn: "taken back",
  },
  /** What happened, in a few words. */
  happened({ event, kind, label, place, person, body = {} }) {
    const who = capital(person || label || (kind === "face" ? "a face" : kind === "scene" ? "a scene" : "something"));
    const where = place || body.name || "";
    if (kind === "scene") return `${event === "ended" ? "Scene over" : "Scene"}: ${label.replaceAll("_", " ")}`;
    const lasted = body.duration_s ? ` after ${body.duration_s < 10 ? body.duration_s.toFixed(1) : Math.round(body.duration_s)}\u00a0s` : "";
    if (kind === "identity" && event !== "ended" && !person) return label ? `Taken back: not ${label}` : body.previous ? `${body.previous} is unknown now` : "Somebody who was forgotten";
    switch (event) {
      case "enter": return `${who} entered ${where}`;
      case "leave": return `${who} left ${where}${lasted}`;
      case "dwell": return `${who} stays in ${where}`;
      case "cross": return `${who} crossed ${where}${body.direction ? `, ${text.direction[body.direction]}` : ""}`;
      case "changed": return body.previous ? `${capital(body.previous)} is ${label} now` : `${who} is told now`;
      case "ended": return `${who} gone${lasted}`;
      default: return person ? `${who} recognised` : `${who} appeared`;
    }
  },
  people: {
    known: "People", unknown: "Who is this?", photo: "Who is on a photo?",
    none: "Nobody is in the gallery yet. Name a face below, or enrol photos with “trunkline enroll”.", noneViewer: "Nobody is in the gallery yet.",
    noUnknown: "No unknown faces in the last days.", looking: "Looking at the faces; the first time this takes some seconds …",
    unknownHint: "Unknown faces of the last 3 days, those that look alike together. A name teaches Trunkline the best views of the group.",
    views: (number) => many(number, "view"), seen: (number, streams, when) => `${many(number, "view")} on ${streams.join(", ")}, last ${when}`,
    nameFor: (group) => `Name of the face in group ${group}`, enrol: "Name",
    notGood: (flaw) => `No view is good enough to learn from: the best face ${flaw}.`, enrolled: (name) => `${name} is in the gallery now.`,
    expired: "expired", expires: (when) => `until ${when}`, added: (when) => `since ${when}`, details: (name) => `${name}, details`,
    rename: "New name", merge: "Merge into", mergeHint: "All views go to that person; this name ends.", nobody: "nobody",
    consent: "Consent note", expiry: "Forget on", events: "Events", exported: "Export everything", forget: "Forget", saved: "Saved.",
    sure: (name) => `Forget ${name}? Embeddings, photos, snapshots and the name in events go for good.`, clips: "Delete clips of this person, too",
    forgotten: (name) => `${name} is forgotten.`, choose: "Choose or drop a photo", noFace: "No face was found on this photo.",
    unknownFace: "unknown", similarity: (share) => `similarity ${share.toFixed(2)}`, photoOf: "The photo with the faces that were found",
  },
  zones: {
    stream: "Stream", zone: "Draw a zone", line: "Draw a line", saved: "Zones and lines are saved and in use.",
    empty: "No zones or lines yet. Draw a zone, and be told who enters, stays and leaves; or a line, and count what crosses it.", unsaved: "Not saved yet.", revert: "Undo changes",
    surface: "Picture to draw on. Arrow keys move the cross, Enter sets a point, Enter again on the same point ends a zone, Escape stops.",
    hintZone: "Click the corners of the zone; click the first one, or twice, to close it. Keys: arrows, Enter, Escape, Backspace.",
    hintLine: "Click where the line begins and where it ends. Keys: arrows, Enter, Escape.",
    hintEdit: "Drag a corner, or focus it and use the arrow keys (Shift: large steps). Delete removes a corner, Enter adds one.",
    corner: (name, number) => `Corner ${number} of ${name}`,
    name: "Name", labels: "Labels, with commas", anyLabel: "all", dwell: "Event after (s)", remove: "Remove", never: "never",
    newZone: (number) => `zone-${number}`, newLine: (number) => `line-${number}`, crossing: "Side b is where the arrow points.",
    sameName: (name) => `Two shapes are called ${name}: names must differ.`,
  },
  system: {
    parts: { cpu: "Processor", cuda: "CUDA", nvdec: "NVDEC", run: "Run", machine: "Machine", engine: "Engine", versions: "Versions", streams: "Streams", latency: "Latency", happened: "What happened to streams", log: "Log", doctor: "Checks" },
    histogram: (name, total) => `${name}: ${many(total, "frame")}`, upTo: (value) => `up to ${value} ms`, above: (value) => `above ${value} ms`,
    looking: "Looking at the machine; the first time this takes some seconds …",
    access: "Access", users: "Users", tokens: "API tokens", audit: "Audit log",
    user: "Name", role: "Role", streamsOf: "Streams, with commas (of a viewer)", addUser: "Add user", remove: "Remove",
    sureUser: (name) => `Remove ${name}?`, tokenName: "What for", days: "Good for (days)", addToken: "Make a token",
    userOnce: (name, password) => `The password of ${name} for one login, shown this once: ${password}`,
    tokenOnce: (token) => `The token, shown this once: ${token}`, sureToken: "End this token?", none: "none", yes: "yes", no: "no",
  },
};
