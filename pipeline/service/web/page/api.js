// The server: requests with the CSRF token, errors as one sentence, and the socket of live messages.

import { text } from "./text.js";

export const session = { user: null, role: null, csrf: "", loopback: false };
export const isAdmin = () => session.role === "admin";

/** An answer that is no success; `message` is the server's sentence. */
export class Refused extends Error {
  constructor(status, sentence) {
    super(sentence);
    this.status = status;
  }
}

/** Return the JSON of an answer (null where there is none); Refused where the server says no or is away. */
export async function call(method, path, body = undefined) {
  const headers = method === "GET" ? {} : { "X-CSRF-Token": session.csrf };
  const isForm = body instanceof FormData;
  if (body !== undefined && !isForm) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, { method, headers, body: isForm || body === undefined ? body : JSON.stringify(body) });
  } catch {
    throw new Refused(0, text.away);
  }
  const content = answer.headers.get("Content-Type")?.includes("json") ? await answer.json().catch(() => null) : null;
  if (answer.status === 401 && path !== "/api/login" && path !== "/api/me") dispatchEvent(new Event("tl-login"));
  if (!answer.ok) throw new Refused(answer.status, content?.error ?? text.refused(answer.status));
  return content;
}

export const get = (path) => call("GET", path);
export const post = (path, body) => call("POST", path, body);
export const part = encodeURIComponent;

/** Who is at the page; Return false where a login is needed. */
export async function whoAmI() {
  try {
    Object.assign(session, await get("/api/me"));
    return true;
  } catch (error) {
    if (error.status !== 401) throw error;
    Object.assign(session, { user: null, role: null, csrf: "" });
    return false;
  }
}

export const socketAddress = (path) => `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${path}`;

const KEPT = 250; // frame messages of a stream: 10 s at 25 a second
const [LEAST_APART_MS, MOST_APART_MS] = [400, 1200];
const RETRY_MS = [300, 600, 1200, 2500, 5000];

/** The messages of the run, as they come. Events: `frame`, `event`, `health` (detail: the message), `state`. */
class Hub extends EventTarget {
  connected = false;
  #frames = new Map();
  #socket = null;
  #asked = "";
  #failures = 0;
  #timer = 0;

  /** Listen to these streams; frames only where the view shows them. The same again changes nothing. */
  listen(streams, withFrames) {
    const query = new URLSearchParams({ streams: [...streams].sort().join(","), types: withFrames ? "frame,event,health" : "event,health" });
    if (this.#asked === `${query}`) return;
    this.#asked = `${query}`;
    this.#open();
  }

  stop() {
    this.#asked = "";
    clearTimeout(this.#timer);
    this.#socket?.close();
    this.#socket = null;
    this.#frames.clear();
  }

  /** The message of the picture taken at that time, or the last one before it, not much longer ago than frames are apart. */
  at(stream, capturedMs) {
    let best = null;
    const frames = this.#frames.get(stream) ?? [];
    const apart = frames.length > 1 ? frames.at(-1).capturedMs - frames.at(-2).capturedMs : 0;
    const within = Math.min(MOST_APART_MS, Math.max(LEAST_APART_MS, 1.5 * apart));
    for (const frame of frames) {
      const ahead = frame.capturedMs - capturedMs;
      if (ahead > 5) break; // messages tell milliseconds, and rounding is no later picture
      if (ahead >= -within) best = frame;
    }
    return best;
  }

  last(stream) {
    return this.#frames.get(stream)?.at(-1) ?? null;
  }

  #open() {
    clearTimeout(this.#timer);
    this.#socket?.close();
    const socket = new WebSocket(socketAddress(`/api/live?${this.#asked}`));
    this.#socket = socket;
    socket.onopen = () => { this.#failures = 0; this.#say(true); };
    socket.onmessage = ({ data }) => this.#take(JSON.parse(data));
    socket.onclose = ({ code }) => {
      if (socket !== this.#socket) return;
      if (code === 4401) return dispatchEvent(new Event("tl-login")); // the session has ended
      this.#say(false);
      this.#timer = setTimeout(() => this.#open(), RETRY_MS[Math.min(this.#failures++, RETRY_MS.length - 1)]);
    };
  }

  #say(connected) {
    if (this.connected === connected) return;
    this.connected = connected;
    this.dispatchEvent(new CustomEvent("state", { detail: connected }));
  }

  #take(message) {
    if (message.type === "frame") {
      message.capturedMs = Date.parse(message.captured_at);
      const frames = this.#frames.get(message.stream) ?? [];
      if (frames.at(-1)?.capturedMs > message.capturedMs + 1000) frames.length = 0; // the run began anew
      frames.push(message);
      if (frames.length > KEPT) frames.splice(0, frames.length - KEPT);
      this.#frames.set(message.stream, frames);
    }
    this.dispatchEvent(new CustomEvent(message.type, { detail: message }));
  }
}

export const hub = new Hub();
