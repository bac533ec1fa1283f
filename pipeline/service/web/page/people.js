// People: who is known, unknown faces in groups that wait for a name, and who is on a photo.

import { call, get, isAdmin, part, post } from "./api.js";
import { attempt, dialog, h, icon, say } from "./dom.js";
import { dateOf, lastOf, toLocal, whenOf } from "./format.js";
import { Overlay } from "./overlay.js";
import { text } from "./text.js";

const DAYS = 3;
const VIEWS_SHOWN = 6;
const lastDay = ({ expires_at: at }) => toLocal(at).replace(/T.*/, "");

class People extends HTMLElement {
  #people = [];

  connectedCallback() {
    this.known = h("ul", { class: "people" });
    this.groups = h("ul", { class: "groups" }, h("li", { class: "muted wide", role: "status" }, text.people.looking));
    this.names = h("datalist", { id: "names" });
    this.replaceChildren(
      h("header", { class: "head" }, h("h1", {}, text.people.known)), this.names, this.known,
      ...(isAdmin() ? [
        h("h2", {}, text.people.unknown), h("p", { class: "muted" }, text.people.unknownHint), this.groups,
        h("h2", {}, text.people.photo), photoForm()] : []));
    this.faces = new IntersectionObserver((entries) => entries.filter((entry) => entry.isIntersecting).forEach(({ target }) => this.face(target)));
  }

  disconnectedCallback() {
    this.faces.disconnect();
    this.detail?.close();
  }

  async route(name) {
    await this.load();
    const one = this.#people.find((person) => person.name === name);
    if (this.detail?.dataset.name !== name) this.detail?.close();
    if (one && !this.detail?.open) this.open(one);
  }

  async load() {
    await attempt(async () => {
      this.#people = await get("/api/people");
      this.drawKnown();
      if (isAdmin()) this.drawGroups(await get(`/api/people/unknown?days=${DAYS}`));
    });
  }

  drawKnown() {
    const { people } = text;
    this.names.replaceChildren(...this.#people.map(({ name }) => h("option", { value: name })));
    const focused = document.activeElement?.closest("a.person")?.hash;
    this.known.replaceChildren(...this.#people.map((one) => {
      const avatar = h("span", { class: "avatar", dataset: { name: one.name } }, [...one.name][0].toUpperCase());
      this.faces.observe(avatar);
      return h("li", {}, h("a", { class: "card person", href: `#/people/${part(one.name)}`, "aria-label": people.details(one.name) }, avatar,
        h("span", { class: "row-words" }, h("strong", {}, one.name),
          h("span", { class: "muted" }, people.views(one.embeddings), one.added_at && ` · ${people.added(dateOf(one.added_at))}`),
          one.consent && h("span", { class: "muted" }, one.consent),
          one.expires_at && h("span", { class: one.expired ? "error" : "muted" }, one.expired ? people.expired : people.expires(dateOf(one.expires_at))))));
    }));
    if (focused) [...this.known.querySelectorAll("a.person")].find(({ hash }) => hash === focused)?.focus();
    if (!this.#people.length) this.known.replaceChildren(h("li", { class: "empty" }, isAdmin() ? people.none : people.noneViewer));
  }

  /** The last snapshot of a person, once their card is seen. */
  async face(avatar) {
    this.faces.unobserve(avatar);
    const page = await get(`/api/events?limit=5&person=${part(avatar.dataset.name)}`).catch(() => null);
    const event = page?.events.find((one) => one.has_snapshot);
    if (event) avatar.replaceChildren(h("img", { src: `/api/events/${event.id}/snapshot.jpg`, alt: "" }));
  }

  drawGroups(groups) {
    const { people } = text;
    this.groups.replaceChildren(...groups.map((group) => {
      const input = h("input", { name: "name", list: "names", required: true, maxlength: "64", autocomplete: "off", "aria-label": people.nameFor(group.group), placeholder: people.unknown });
      return h("li", { class: "card group", dataset: { group: group.group } },
        h("div", { class: "views" }, group.event_ids.slice(0, VIEWS_SHOWN).map((id) => h("img", { src: `/api/events/${id}/snapshot.jpg`, alt: "", loading: "lazy" }))),
        h("p", { class: "muted" }, people.seen(group.count, group.streams, lastOf(group.last_at))),
        group.flaw ? h("p", { class: "muted small" }, people.notGood(group.flaw))
          : h("form", { class: "inline", onsubmit: (event) => this.enrol(event, input.value.trim(), group.event_ids) }, input, h("button", { class: "main" }, people.enrol)));
    }));
    if (!groups.length) this.groups.replaceChildren(h("li", { class: "empty" }, people.noUnknown));
  }

  async enrol(event, name, ids) {
    event.preventDefault();
    const isDone = await this.change(() => post("/api/people", { name, event_ids: ids }), text.people.enrolled(name));
    if (isDone && matchMedia("(pointer: fine)").matches) this.groups.querySelector("input")?.focus(); // not where a keyboard would cover the page
  }

  /** Do it, tell it, load anew; Return whether it was done. */
  async change(action, done) {
    if (!await attempt(action)) return false;
    say(done);
    await this.load();
    return true;
  }

  open(one) {
    const { people } = text;
    const others = this.#people.filter((other) => other.name !== one.name);
    const address = `/api/people/${part(one.name)}`;
    const form = h("form", { class: "stack", onsubmit: (event) => { event.preventDefault(); this.save(one, form); } },
      h("label", {}, people.rename, h("input", { name: "rename", value: one.name, maxlength: "64", required: true })),
      h("label", {}, people.consent, h("input", { name: "consent", value: one.consent ?? "" })),
      h("label", {}, people.expiry, h("input", { name: "expires_at", type: "date", value: lastDay(one) })),
      others.length > 0 && h("label", {}, people.merge, h("select", { name: "merge_into" }, h("option", { value: "" }, people.nobody), others.map(({ name }) => h("option", {}, name))), h("span", { class: "muted small" }, people.mergeHint)),
      h("button", { class: "main" }, text.save));
    const clips = h("input", { type: "checkbox" });
    this.detail = dialog(one.name, text.close,
      h("p", { class: "muted" }, people.views(one.embeddings), one.consent && ` · ${one.consent}`),
      this.latest(one),
      isAdmin() && form,
      isAdmin() && h("label", { class: "check" }, clips, people.clips),
      h("footer", {},
        h("a", { class: "button", href: `#/events?person=${part(one.name)}` }, people.events), h("div", { class: "spring" }),
        isAdmin() && h("a", { class: "button", href: `${address}/export.zip`, download: "" }, people.exported),
        isAdmin() && h("button", { class: "danger", onclick: () => this.forget(one, clips.checked) }, people.forget)));
    this.detail.dataset.name = one.name;
    this.detail.addEventListener("close", () => { if (location.hash === `#/people/${part(one.name)}`) location.hash = "#/people"; });
  }

  /** Pictures of the latest events that bear the name; each leads to its event, where it can be taken back. */
  latest({ name }) {
    const views = h("div", { class: "views", hidden: true });
    get(`/api/events?limit=30&person=${part(name)}`).then(({ events }) => {
      const shown = events.filter((event) => event.has_snapshot).slice(0, VIEWS_SHOWN);
      views.hidden = !shown.length;
      views.replaceChildren(...shown.map((event) => h("a", { href: `#/events/${event.id}?person=${part(name)}`, title: whenOf(event.at) },
        h("img", { src: `/api/events/${event.id}/snapshot.jpg`, alt: text.happened(event) }))));
    }).catch(() => {}); // nothing was kept of anybody
    return h("div", {}, views);
  }

  async save(one, form) {
    const given = Object.fromEntries(new FormData(form));
    const changes = {};
    if (given.merge_into) changes.merge_into = given.merge_into;
    else if (given.rename.trim() !== one.name) changes.rename = given.rename.trim();
    if (given.consent.trim() !== (one.consent ?? "")) changes.consent = given.consent.trim();
    // A person is forgotten when their last day ends, in the reader's zone.
    if (given.expires_at !== lastDay(one)) changes.expires_at = given.expires_at ? new Date(`${given.expires_at}T23:59:59`).toISOString() : null;
    if (!Object.keys(changes).length || await this.change(() => call("PATCH", `/api/people/${part(one.name)}`, changes), text.people.saved)) this.detail.close();
  }

  async forget(one, clips) {
    if (!confirm(text.people.sure(one.name))) return;
    if (await this.change(() => call("DELETE", `/api/people/${part(one.name)}?clips=${clips}`), text.people.forgotten(one.name))) this.detail.close();
  }
}

/** A photo is sent, and shown with who is on it; nothing of it is kept. */
function photoForm() {
  const { people } = text;
  const overlay = new Overlay(h("canvas", { role: "img", "aria-label": people.photoOf, hidden: true }));
  const answer = h("p", { role: "status" });
  const look = async (file) => {
    if (!file) return;
    const form = new FormData();
    form.append("photo", file);
    try {
      const faces = await post("/api/who", form);
      const words = (face) => `${face.name ?? people.unknownFace}${face.similarity === null ? "" : `, ${people.similarity(face.similarity)}`}`;
      answer.textContent = faces.length ? faces.map(words).join("; ") : people.noFace;
      const bitmap = await createImageBitmap(file).catch(() => null);
      if (!bitmap) return;
      overlay.canvas.hidden = false;
      overlay.canvas.style.setProperty("aspect-ratio", `${bitmap.width} / ${bitmap.height}`);
      overlay.begin([bitmap.width, bitmap.height]);
      overlay.picture(bitmap);
      for (const face of faces) overlay.box(face.box, face.name ? "#5cf2a6" : "#ffffff", face.name ?? people.unknownFace);
    } catch (error) {
      answer.textContent = error.message;
    }
  };
  const input = h("input", { type: "file", accept: "image/*", onchange: () => look(input.files[0]) });
  return h("div", { class: "card photo", ondragover: (event) => event.preventDefault(), ondrop: (event) => { event.preventDefault(); look(event.dataTransfer.files[0]); } },
    h("label", { class: "drop" }, icon("face"), people.choose, input), answer, overlay.canvas);
}

customElements.define("tl-people", People);
