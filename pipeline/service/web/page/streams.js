// The streams of the run, as the server tells them every two seconds, and at once when one goes up or down.

import { get, hub } from "./api.js";

const EVERY_MS = 2000;

/** `rows`: /api/streams. Events: `change`; `away` (detail: whether the server does not answer). */
class Streams extends EventTarget {
  rows = [];
  loaded = false;
  #timer = 0;
  #away = false;

  constructor() {
    super();
    hub.addEventListener("health", ({ detail }) => {
      const row = this.named(detail.stream);
      if (!row) return this.refresh();
      Object.assign(row, { state: detail.state, cause: detail.cause });
      this.dispatchEvent(new Event("change"));
    });
  }

  named(name) {
    return this.rows.find((row) => row.name === name);
  }

  start() {
    this.stop();
    const tick = async () => {
      if (!document.hidden) await this.refresh();
      if (this.#timer !== null) this.#timer = setTimeout(tick, EVERY_MS);
    };
    this.#timer = 0;
    return tick();
  }

  stop() {
    clearTimeout(this.#timer);
    this.#timer = null;
  }

  async refresh() {
    try {
      this.rows = await get("/api/streams");
      this.loaded = true;
      this.#say(false);
      this.dispatchEvent(new Event("change"));
    } catch (error) {
      if (error.status === 0) this.#say(true);
    }
  }

  #say(away) {
    if (away === this.#away) return;
    this.#away = away;
    this.dispatchEvent(new CustomEvent("away", { detail: away }));
  }
}

export const streams = new Streams();
