// The login.

import { post } from "./api.js";
import { h } from "./dom.js";
import { text } from "./text.js";

/** `<tl-login>`; event `login` when the server has let somebody in. */
class Login extends HTMLElement {
  connectedCallback() {
    this.error = h("p", { class: "error", role: "alert" });
    // A password that was printed is good for one login, which replaces it.
    this.changed = h("label", { hidden: true }, text.login.changed, h("input", { name: "new", type: "password", autocomplete: "new-password" }));
    this.replaceChildren(h("form", { class: "card login", onsubmit: (event) => this.send(event) },
      h("img", { src: "/page/icon.svg", alt: "", width: "44", height: "44" }),
      h("h1", {}, text.login.title),
      h("label", {}, text.login.user, h("input", { name: "user", autocomplete: "username", required: true, autofocus: true })),
      h("label", {}, text.login.password, h("input", { name: "password", type: "password", autocomplete: "current-password", required: true })),
      this.changed,
      this.error,
      h("button", { class: "main" }, text.login.submit),
      h("p", { class: "muted small" }, text.login.hint)));
    this.querySelector("input").focus();
  }

  async send(event) {
    event.preventDefault();
    const form = event.target;
    try {
      const { new: changed, ...given } = Object.fromEntries(new FormData(form));
      await post("/api/login", changed ? { ...given, new: changed } : given);
      this.dispatchEvent(new Event("login"));
    } catch (error) {
      this.error.textContent = error.message;
      if (error.status === 409) {
        this.changed.hidden = false;
        return form.elements.new.focus();
      }
      form.elements.password.value = "";
      form.elements.password.focus();
    }
  }
}

customElements.define("tl-login", Login);
