// Elements made without markup: nothing that a server or a camera says can become HTML.

const SVG = "http://www.w3.org/2000/svg";

/** Return a new element. `props`: attributes; `on...`: listeners; `style`, `dataset`: objects; `.name`: a property. */
export function h(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** The same in SVG. */
export function s(tag, props = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name.startsWith(".")) element[name.slice(1)] = value;
    // Through the object model: the Content-Security-Policy forbids style attributes.
    else if (name === "style") for (const [key, one] of Object.entries(value)) element.style.setProperty(key, one);
    else if (name === "dataset") Object.assign(element.dataset, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const PATHS = {
  live: "M4 6h11v12H4zM15 10l5-3v10l-5-3", events: "M4 6h16M4 12h16M4 18h10", people: "M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM4 21c0-4 4-6 8-6s8 2 8 6",
  zones: "M5 8l7-4 7 5-2 10-10 1z", system: "M4 5h16v11H4zM9 20h6M12 16v4", theme: "M12 4a8 8 0 1 0 8 8 6 6 0 0 1-8-8z", leave: "M10 4H5v16h5M10 12h10M16 8l4 4-4 4",
  close: "M6 6l12 12M18 6L6 18", back: "M15 5l-7 7 7 7", next: "M9 5l7 7-7 7", play: "M8 5l11 7-11 7z", full: "M4 9V4h5M15 4h5v5M20 15v5h-5M9 20H4v-5",
  face: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18zM9 10h.01M15 10h.01M8.5 15c2 2 5 2 7 0",
};

/** Return one of the page's own icons, hidden from screen readers: words stand beside it or in the label. */
export function icon(name) {
  return s("svg", { viewBox: "0 0 24 24", class: "icon", "aria-hidden": "true" }, s("path", { d: PATHS[name] }));
}

/** Say something to people who see the page and to those who hear it; it goes by itself. */
export function say(sentence, bad = false) {
  const box = document.querySelector("#said");
  const note = h("p", { class: bad ? "toast bad" : "toast" }, sentence);
  box.append(note);
  setTimeout(() => note.remove(), bad ? 9000 : 4000);
}

/** Do it; Return whether it was done: where the server refuses, its sentence is said. */
export async function attempt(action) {
  try {
    await action();
    return true;
  } catch (error) {
    say(error.message, true);
    return false;
  }
}

/** An element that hears nothing any more once it has left the page. */
export class View extends HTMLElement {
  #left = new AbortController();

  listen(target, type, heard) {
    target.addEventListener(type, heard, { signal: this.#left.signal });
  }

  disconnectedCallback() {
    this.#left.abort();
  }
}

/** Show a modal dialog with a heading and a close button; Return it. It leaves the page when it is closed. */
export function dialog(title, closeLabel, ...children) {
  const box = h("dialog", { "aria-label": title, onclose: () => box.remove(), onclick: (event) => event.target === box && box.close() },
    h("div", { class: "dialog" },
      h("header", {}, h("h2", {}, title), h("button", { class: "bare", "aria-label": closeLabel, onclick: () => box.close() }, icon("close"))),
      children));
  document.body.append(box);
  box.showModal();
  return box;
}
