// One stream's live picture: H.264 through Media Source Extensions, else MJPEG, else boxes on a dark field.

import { hub, part, socketAddress } from "./api.js";
import { h, View } from "./dom.js";
import { Overlay } from "./overlay.js";
import { text } from "./text.js";

const [BEHIND_S, MOST_BEHIND_S] = [0.4, 3]; // behind the newest picture: its message has to be there when it is shown
const [TOO_FAR_S, KEEP_S] = [1.1, 10]; // behind that; of what was shown
const [BASES, ROUNDING_S] = [500, 0.002];
const MJPEG_AT_ONCE = 4; // a browser opens six connections to a server, and requests need one, too
const RETRY_MS = 1500;
const [LOOKS, LOOK_MS] = [10, 40];
let mjpegOpen = 0;

/** `<tl-picture>`: set `stream` (a row of /api/streams) and `show` {boxes, zones}. `shown`: the message drawn last. */
class LivePicture extends View {
  show = { boxes: true, zones: true };
  shown = null;
  mode = "none";
  #stream = null;
  #bitmap = null;
  #bitmapMs = 0;
  #videoMs = null;
  #closing = new AbortController();
  #timer = 0;

  connectedCallback() {
    this.video = h("video", { ".muted": true, ".playsInline": true, ".disablePictureInPicture": true, "aria-hidden": "true", tabindex: "-1" });
    const canvas = h("canvas", { role: "img", "aria-label": text.pictureOf(this.#stream?.name ?? "") });
    this.note = h("p", { class: "picture-note", hidden: true });
    this.replaceChildren(this.video, canvas, this.note);
    this.overlay = new Overlay(canvas);
    this.listen(hub, "frame", ({ detail }) => detail.stream === this.#stream?.name && this.mode !== "mse" && this.draw());
    this.listen(document, "visibilitychange", () => this.#start());
    this.sizes = new ResizeObserver(() => this.draw());
    this.sizes.observe(canvas);
    this.#start();
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    this.sizes.disconnect();
    this.#stop();
  }

  set stream(row) {
    const before = this.#stream;
    this.#stream = row;
    this.overlay?.canvas.setAttribute("aria-label", text.pictureOf(row.name));
    if (row.size) this.style.setProperty("aspect-ratio", `${row.size[0]} / ${row.size[1]}`);
    const anew = !before || before.name !== row.name || before.video !== row.video || (before.state !== row.state && row.state === "up");
    if (this.isConnected && anew) this.#start();
    else if (this.isConnected) this.draw();
  }

  /** Draw what belongs to the picture that is shown now. */
  draw() {
    const { name, state } = this.#stream ?? {};
    if (!name || !this.overlay) return;
    const mse = this.mode === "mse" && this.#videoMs !== null;
    const time = mse ? this.#videoMs : this.#bitmap ? this.#bitmapMs : null;
    const message = state !== "up" ? null : time === null ? hub.last(name) : hub.at(name, time);
    if (!this.overlay.begin(message?.size ?? this.#stream.size ?? [16, 9])) return;
    if (this.#bitmap && !mse) this.overlay.picture(this.#bitmap);
    if (this.show.zones) this.overlay.places(this.#stream.zones, this.#stream.lines);
    if (this.show.boxes && message) this.overlay.frame(message);
    this.shown = message;
  }

  #say(sentence) {
    this.note.textContent = sentence;
    this.note.hidden = !sentence;
  }

  #stop() {
    this.#closing.abort();
    clearTimeout(this.#timer);
    this.#videoMs = this.#bitmap = null;
    this.video.removeAttribute("src");
    this.video.load();
    this.dataset.mode = this.mode = "none";
  }

  #start() {
    this.#stop();
    if (document.hidden || !this.#stream) return; // nobody looks: no video is asked for
    this.#closing = new AbortController();
    const { video } = this.#stream;
    if (video === "mse" && "MediaSource" in window) this.#playMedia(this.#closing.signal);
    else if (video === "mse" || video === "mjpeg") this.#playPictures(this.#closing.signal);
    else this.#say(text.noVideo);
    this.draw();
  }

  #again(signal) {
    // Of a stream that is not there, the last picture stays; it is begun anew when the stream is up.
    if (!signal.aborted) this.#timer = setTimeout(() => ["down", "ended"].includes(this.#stream.state) || this.#start(), RETRY_MS);
  }

  #playMedia(signal) {
    this.#say(text.loading);
    const source = new MediaSource();
    const address = URL.createObjectURL(source);
    this.video.src = address;
    const waiting = [];
    let buffer = null;
    const bases = []; // [media time from which it counts, when media time 0 was captured]
    const socket = new WebSocket(socketAddress(`/api/video/${part(this.#stream.name)}`));
    socket.binaryType = "arraybuffer";
    signal.addEventListener("abort", () => { socket.close(); URL.revokeObjectURL(address); });
    const feed = () => {
      if (!buffer || buffer.updating || source.readyState !== "open") return;
      const { buffered } = buffer;
      if (buffered.length && buffered.end(buffered.length - 1) - buffered.start(0) > 2 * KEEP_S) return buffer.remove(0, buffered.end(buffered.length - 1) - KEEP_S);
      if (waiting.length) buffer.appendBuffer(waiting.shift());
      this.#follow(buffered);
    };
    const open = (type) => {
      buffer = source.addSourceBuffer(type);
      buffer.addEventListener("updateend", feed);
      feed();
    };
    socket.onmessage = ({ data }) => {
      if (typeof data !== "string") { waiting.push(data); return feed(); }
      const head = JSON.parse(data);
      bases.push([head.from_s ?? -Infinity, head.base_ns / 1e6]);
      if (bases.length > BASES) bases.shift();
      if (!head.codec) return;
      if (!MediaSource.isTypeSupported(head.codec)) return this.#playPictures(signal, text.cannotPlay(head.codec), socket);
      if (source.readyState === "open") open(head.codec);
      else source.addEventListener("sourceopen", () => open(head.codec), { once: true });
    };
    socket.onclose = () => this.mode !== "mjpeg" && this.#again(signal);
    this.video.onerror = () => socket.close();
    const shown = (_, { mediaTime }) => {
      if (signal.aborted) return;
      const [, baseMs] = bases.findLast(([from]) => from <= mediaTime + ROUNDING_S) ?? bases[0];
      this.#videoMs = baseMs + mediaTime * 1000;
      this.dataset.mode = this.mode = "mse";
      this.#say("");
      this.draw();
      this.video.requestVideoFrameCallback(shown);
    };
    this.video.requestVideoFrameCallback(shown);
  }

  /** How far behind the newest picture to be: a run that takes long tells late what is on it. */
  get #behindS() {
    const late = (this.#stream?.latency_ms?.p99 ?? 0) / 1000;
    return Math.min(MOST_BEHIND_S, Math.max(BEHIND_S, 1.2 * late));
  }

  /** Stay a little behind the newest picture: jump when far, else a little faster. */
  #follow(buffered) {
    if (!buffered.length) return;
    const end = buffered.end(buffered.length - 1);
    const { video } = this;
    const late = end - video.currentTime - this.#behindS;
    if (video.currentTime < buffered.start(buffered.length - 1) || late > TOO_FAR_S) video.currentTime = Math.max(buffered.start(buffered.length - 1), end - this.#behindS);
    video.playbackRate = late > BEHIND_S ? 1.08 : late < -BEHIND_S ? 0.92 : 1;
    if (video.paused) video.play().catch(() => {}); // refused where the page was never touched: the next picture asks again
  }

  async #playPictures(signal, why = "", socket = null) {
    this.dataset.mode = this.mode = "mjpeg";
    socket?.close();
    if (mjpegOpen >= MJPEG_AT_ONCE) return this.#say(text.pictureWhenLarge);
    mjpegOpen += 1;
    try {
      const answer = await fetch(`/api/mjpeg/${part(this.#stream.name)}?fps=5`, { signal });
      if (!answer.ok) throw new Error(text.refused(answer.status));
      this.#say(why);
      for await (const [capturedMs, jpeg] of parts(answer.body.getReader())) {
        const bitmap = await createImageBitmap(new Blob([jpeg], { type: "image/jpeg" }));
        // Its message comes a little later: wait for it, so that boxes and picture change together.
        for (let left = LOOKS; left && !(hub.last(this.#stream.name)?.capturedMs >= capturedMs - 1); left -= 1) await new Promise((done) => { setTimeout(done, LOOK_MS); });
        if (signal.aborted) return bitmap.close();
        const before = this.#bitmap;
        [this.#bitmap, this.#bitmapMs] = [bitmap, capturedMs];
        this.draw();
        before?.close();
      }
    } catch (error) {
      if (!signal.aborted) this.#say(text.noPicture(error.message));
    } finally {
      mjpegOpen -= 1;
    }
    this.#again(signal);
  }
}

const letters = new TextDecoder("latin1"); // a character a byte

/** The parts of a multipart/x-mixed-replace body: [when it was captured, bytes]. A part must tell its Content-Length. */
async function* parts(reader) {
  let kept = new Uint8Array(0);
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    kept = new Uint8Array(await new Blob([kept, value]).arrayBuffer());
    for (let head; (head = letters.decode(kept).match(/^[^]*?\r\n\r\n/)?.[0]);) {
      const told = (name) => head.match(new RegExp(`^${name}:(.*)`, "im"))?.[1];
      const end = head.length + Number(told("content-length"));
      if (Number.isNaN(end)) throw new Error(text.noLength);
      if (kept.length < end) break;
      yield [Date.parse(told("x-captured-at")) || Date.now(), kept.slice(head.length, end)];
      kept = kept.slice(end);
    }
  }
}

customElements.define("tl-picture", LivePicture);
