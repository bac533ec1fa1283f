// What is drawn over a picture: boxes, faces, names, zones and lines.

const COLOURS = ["#4cc9f0", "#ffd166", "#f78fb3", "#b8a1ff", "#7ee081", "#ff9f6b", "#8fd3c8", "#e0e36a"];
const NAMED = "#5cf2a6";
const FACE = "#ffffff";
const FAINT = 0.45;
const FIXED = { person: 0, car: 1, cat: 2, dog: 3, bicycle: 4, truck: 5 };

/** The colour of a label, the same on every stream and every day. */
export function colourOf(label) {
  if (label in FIXED) return COLOURS[FIXED[label]];
  let hash = 0;
  for (const letter of label ?? "") hash = (hash * 31 + letter.charCodeAt(0)) >>> 0;
  return COLOURS[hash % COLOURS.length];
}

/** A canvas as large as its place, drawn in pixels of a picture `size` that is fitted in and centred. */
export class Overlay {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
  }

  /** Clear, and set the scale for a picture of that size; Return false where nothing would be seen. */
  begin([width, height]) {
    const { clientWidth, clientHeight } = this.canvas;
    const ratio = devicePixelRatio || 1;
    const [wide, high] = [Math.round(clientWidth * ratio), Math.round(clientHeight * ratio)];
    if (!wide || !high || !width || !height) return false;
    if (this.canvas.width !== wide) this.canvas.width = wide;
    if (this.canvas.height !== high) this.canvas.height = high;
    this.size = [width, height];
    this.taken = []; // where labels stand: [left, top, right, bottom]
    this.scale = Math.min(wide / width, high / height);
    this.unit = ratio / this.scale; // a CSS pixel, in pixels of the picture
    this.context.setTransform(1, 0, 0, 1, 0, 0);
    this.context.clearRect(0, 0, wide, high);
    this.context.setTransform(this.scale, 0, 0, this.scale, (wide - width * this.scale) / 2, (high - height * this.scale) / 2);
    return true;
  }

  picture(bitmap) {
    this.context.drawImage(bitmap, 0, 0, ...this.size);
  }

  /**
   * Boxes, then what they are called, names first: where labels would cover each other, some are left out.
   * `isFaint`, of a box's track and whether it is a face's, tells what is drawn faintly and without words.
   */
  frame(message, isFaint = () => false) {
    const labels = [];
    const box = (one, colour, words, named, width, faint) => {
      this.context.globalAlpha = faint ? FAINT : 1;
      this.box(one, colour, "", width);
      if (words && !faint) labels.push([one, words, colour, named]);
    };
    const names = new Map(message.faces.filter((face) => face.identity && face.object !== null).map((face) => [face.object, face.identity.name]));
    for (const one of message.objects) {
      const name = names.get(one.track);
      box(one.box, name ? NAMED : colourOf(one.label), name ? `${name} · ${one.label}` : `${one.label} ${Math.round(one.score * 100)}`, Boolean(name), 2, isFaint(one.track, false));
    }
    for (const face of message.faces) {
      const known = face.identity?.name;
      // A name stands once: at the person, where there is one.
      box(face.box, known ? NAMED : FACE, face.object === null || !names.has(face.object) ? known ?? "" : "", true, 1.25, isFaint(face.track, true));
    }
    this.context.globalAlpha = 1;
    labels.sort((a, b) => b[3] - a[3]);
    for (const [one, words, colour, named] of labels) this.label(one, words, colour, named);
  }

  box([x0, y0, x1, y1], colour, label = "", width = 2) {
    const { context, unit } = this;
    context.lineJoin = "round";
    context.lineWidth = (width + 2) * unit;
    context.strokeStyle = "rgba(0, 0, 0, 0.45)"; // an edge that holds on white walls, too
    context.strokeRect(x0, y0, x1 - x0, y1 - y0);
    context.lineWidth = width * unit;
    context.strokeStyle = colour;
    context.strokeRect(x0, y0, x1 - x0, y1 - y0);
    if (label) this.label([x0, y0, x1, y1], label, colour);
  }

  /** Above a box, else within it at its top or bottom; where no place is free, above it if it `must` be there. */
  label([x0, y0, , y1], words, colour, must = true) {
    const { context, unit } = this;
    context.font = `600 ${12 * unit}px system-ui, sans-serif`;
    context.textBaseline = "middle";
    const wide = context.measureText(words).width + 10 * unit;
    const high = 18 * unit;
    const left = Math.max(0, Math.min(x0 - unit, this.size[0] - wide));
    const tops = [y0 - high, y0, y1 - high].filter((one) => one >= 0);
    const isFree = (one) => this.taken.every(([l, t, r, b]) => left >= r || left + wide <= l || one >= b || one + high <= t);
    const top = tops.find(isFree) ?? (must ? tops[0] ?? 0 : null);
    if (top === null) return;
    this.taken.push([left, top, left + wide, top + high]);
    context.fillStyle = colour;
    context.beginPath();
    context.roundRect(left, top, wide, high, 3 * unit);
    context.fill();
    context.fillStyle = "#0b1016";
    context.fillText(words, left + 5 * unit, top + high / 2 + unit / 2);
  }

  places(zones, lines) {
    for (const zone of zones ?? []) this.#shape(zone, true);
    for (const line of lines ?? []) this.#shape(line, false);
  }

  #shape({ name, points }, closed) {
    const { context, unit, size } = this;
    const at = points.map(([x, y]) => [x * size[0], y * size[1]]);
    context.beginPath();
    at.forEach(([x, y], index) => (index ? context.lineTo(x, y) : context.moveTo(x, y)));
    if (closed) {
      context.closePath();
      context.fillStyle = "rgba(94, 234, 212, 0.12)";
      context.fill();
    }
    context.lineWidth = 2 * unit;
    context.setLineDash(closed ? [] : [8 * unit, 5 * unit]);
    context.strokeStyle = closed ? "rgba(94, 234, 212, 0.85)" : "#ffd166";
    context.stroke();
    context.setLineDash([]);
    const top = at.reduce((best, one) => (one[1] < best[1] ? one : best));
    this.label([...top, ...top], name, closed ? "#5eead4" : "#ffd166");
  }
}
