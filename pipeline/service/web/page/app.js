// The frame of the page: who is there, which view the address names, the colours, the banner.

import { hub, isAdmin, post, session, whoAmI } from "./api.js";
import { h, icon } from "./dom.js";
import "./events.js";
import "./live.js";
import "./login.js";
import "./people.js";
import { streams } from "./streams.js";
import "./system.js";
import { text } from "./text.js";
import "./zones.js";

const VIEWS = ["live", "events", "people", "zones", "system"];
const ONLY_ADMIN = ["zones", "system"];
const THEMES = ["auto", "dark", "light"];
const stored = (key, otherwise) => { try { return localStorage.getItem(key) ?? otherwise; } catch { return otherwise; } };

/** What a part of the address says; as it stands there where somebody wrote a % that begins nothing. */
function decoded(part) {
  try { return decodeURIComponent(part); } catch { return part; }
}

/** The address: `#/view/name?filters`. */
function readAddress() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [view, ...rest] = path.split("/");
  return { view: view || "live", name: decoded(rest.join("/")), query: new URLSearchParams(query) };
}

class App extends HTMLElement {
  async connectedCallback() {
    this.banner = h("p", { class: "banner", role: "status", hidden: true });
    this.main = h("main", { id: "content", tabindex: "-1" });
    this.nav = h("nav", { "aria-label": text.navigation });
    this.setTheme(stored("trunkline-theme", "auto"));
    const skip = h("a", { class: "skip", href: "#content", onclick: (event) => { event.preventDefault(); this.main.focus(); } }, text.skip);
    this.replaceChildren(skip, this.nav, h("div", { class: "body" }, this.banner, this.main), h("div", { id: "said", "aria-live": "polite" }));
    addEventListener("hashchange", () => this.show());
    addEventListener("tl-login", () => this.login());
    hub.addEventListener("state", ({ detail }) => this.warn(detail ? "" : text.lost));
    streams.addEventListener("away", ({ detail }) => this.warn(detail ? text.away : ""));
    streams.addEventListener("change", () => this.listen());
    await this.enter();
  }

  /** Find out who is there, as often as it takes until the server answers. */
  async enter() {
    try {
      const known = await whoAmI();
      this.warn("");
      if (!known) return this.login();
    } catch (error) {
      this.warn(error.message);
      return setTimeout(() => this.enter(), 1500);
    }
    streams.start();
    this.drawNavigation();
    this.show();
  }

  login() {
    streams.stop();
    hub.stop();
    this.nav.replaceChildren();
    this.main.replaceChildren(h("tl-login", { onlogin: () => this.enter() }));
    this.dataset.view = "login";
  }

  warn(sentence) {
    this.banner.textContent = sentence;
    this.banner.hidden = !sentence;
  }

  listen() {
    if (streams.rows.length && this.dataset.view !== "login") hub.listen(streams.rows.map((row) => row.name), this.dataset.view === "live" || this.dataset.view === "zones");
  }

  drawNavigation() {
    const views = VIEWS.filter((view) => isAdmin() || !ONLY_ADMIN.includes(view));
    this.theme = h("button", { class: "bare", onclick: () => this.setTheme(THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % 3]) }, icon("theme"));
    this.setTheme(document.documentElement.dataset.theme);
    this.nav.replaceChildren(
      h("a", { class: "brand", href: "#/live" }, h("img", { src: "/page/icon.svg", alt: "", width: "28", height: "28" }), h("span", {}, text.title)),
      h("div", { class: "links" }, views.map((view) => h("a", { href: `#/${view}`, dataset: { view } }, icon(view), h("span", {}, text.views[view])))),
      h("div", { class: "tools" },
        session.user && !session.loopback && h("span", { class: "who muted" }, session.user),
        this.theme,
        !session.loopback && h("button", { class: "bare", "aria-label": text.logout, title: text.logout, onclick: () => this.leave() }, icon("leave"))));
  }

  async leave() {
    await post("/api/logout").catch(() => {});
    this.login();
  }

  setTheme(theme) {
    const known = THEMES.includes(theme) ? theme : "auto";
    document.documentElement.dataset.theme = known;
    try { localStorage.setItem("trunkline-theme", known); } catch { /* a browser that keeps nothing keeps no colours */ }
    if (this.theme) for (const name of ["aria-label", "title"]) this.theme.setAttribute(name, text.theme[known]);
  }

  show() {
    if (!session.role) return;
    const address = readAddress();
    const view = VIEWS.includes(address.view) && (isAdmin() || !ONLY_ADMIN.includes(address.view)) ? address.view : "live";
    for (const link of this.nav.querySelectorAll("[data-view]")) link.ariaCurrent = link.dataset.view === view ? "page" : null;
    if (this.dataset.view !== view || !this.main.firstElementChild) {
      this.dataset.view = view;
      document.title = `${text.views[view]} · ${text.title}`;
      this.main.replaceChildren(h(`tl-${view}`));
      this.listen();
    }
    this.main.firstElementChild.route(view === address.view ? address.name : "", address.query);
  }
}

customElements.define("tl-app", App);
