// The pictures at hand: each is asked for once, one after the other, the one looked at first. The
// answers looked at last are kept; of the others only a thumbnail and the first line.

import { ask, inWords } from "./api.js";
import { decoded, readable } from "./dom.js";

const KEPT = 16; // answers, of a megabyte or two each
const THUMB = 128; // pixels of a thumbnail's longer side
const SEEN_ANYWAY = ["not_suitable", "model_required", "model_not_found", "model_unavailable"];

class Item {
  constructor(file, options) {
    this.file = file;
    this.options = options; // {model, frame, force}
    this.state = "waiting"; // or "reading", "answered", "refused"
    this.answer = null; // the report with its layers; null if it is not kept
    this.best = null; // the most probable label, kept for ever
    this.code = ""; // why it is refused
    this.words = ""; // the same for people
    this.thumb = "";
    this.window = null; // {center, width}, if another than the file's was chosen
    this.label = null; // the class explained
    this.shown = null; // {src, window, side} of the picture at hand
    this.looked = 0;
  }

  get lacksModel() {
    return this.state === "refused" && this.code === "model_required";
  }

  get needed() {
    return this.state === "waiting" || (this.state === "answered" && !this.answer);
  }

  /** Fields of a request about this picture. */
  get fields() {
    return { image: this.file, ...this.options, force: this.options.force ? "true" : "" };
  }

  /** Ask anew next time. */
  reset() {
    this.end();
    Object.assign(this, { state: "waiting", answer: null, best: null, label: null });
    Object.assign(this, { code: "", words: "" });
  }

  show(shown) {
    if (this.shown?.src.startsWith("blob:")) URL.revokeObjectURL(this.shown.src);
    this.shown = shown;
  }

  /** Give up what takes memory. */
  release() {
    this.answer = null;
    this.show(null);
  }

  /** The same, and no longer wait for an answer. */
  end() {
    this.abort?.abort();
    this.release();
  }
}

export class Tray {
  /** `changed(item)` is told of every item that changes, and called with null if the list does. */
  constructor(changed) {
    this.changed = changed;
    this.items = [];
    this.current = null;
    this.clock = 0;
    this.busy = false;
  }

  get index() {
    return this.items.indexOf(this.current);
  }

  add(files, model) {
    const added = [...files].map((file) => new Item(file, { model, frame: "", force: false }));
    if (!added.length) return;
    this.items.push(...added);
    this.choose(added[0]);
  }

  choose(item) {
    this.current = item;
    if (item) item.looked = this.clock += 1;
    this.changed(null);
    this.work();
  }

  step(by) {
    const item = this.items[this.index + by];
    if (item) this.choose(item);
    return Boolean(item);
  }

  remove(item) {
    const at = this.items.indexOf(item);
    item.end();
    this.items.splice(at, 1);
    if (item === this.current) this.choose(this.items[Math.min(at, this.items.length - 1)] ?? null);
    else this.changed(null);
  }

  clear() {
    for (const item of this.items) item.end();
    this.items = [];
    this.choose(null);
  }

  /** Ask again with other options: the current one, and if it is the model, all that lack one. */
  option(name, value) {
    for (const item of this.items) {
      if (item !== this.current && !(name === "model" && item.lacksModel)) continue;
      item.options = { ...item.options, [name]: value };
      item.reset();
      this.changed(item);
    }
    this.work();
  }

  async work() {
    if (this.busy) return;
    this.busy = true;
    for (let item; (item = this.next); ) await this.read(item);
    this.busy = false;
  }

  get next() {
    if (this.current?.needed) return this.current;
    return this.items.find((item) => item.state === "waiting");
  }

  async read(item) {
    const abort = (item.abort = new AbortController());
    item.state = "reading";
    this.changed(item);
    try {
      const response = await ask("explain", { ...item.fields, output: "layers" }, abort.signal);
      const report = await response.json();
      const src = `data:image/png;base64,${report.picture}`;
      const image = await decoded(src);
      if (abort.signal.aborted) return;
      const side = Math.max(image.naturalWidth, image.naturalHeight);
      item.thumb = thumbnail(image);
      item.best = report.predictions[0];
      item.label ??= item.best.label;
      item.answer = report;
      item.state = "answered";
      item.show({ src, side, window: report.shown });
      this.bound();
    } catch (error) {
      if (abort.signal.aborted) return;
      Object.assign(item, { state: "refused", code: error.code, words: inWords(error) });
      if (SEEN_ANYWAY.includes(item.code)) item.thumb = await this.look(item, abort.signal);
    }
    if (!abort.signal.aborted) this.changed(item);
  }

  /** A thumbnail of a picture that no model was asked about; "" if there is none to be had. */
  async look(item, signal) {
    try {
      const fields = { image: item.file, frame: item.options.frame, max_side: THUMB };
      const response = await ask("picture", fields, signal);
      const src = URL.createObjectURL(await response.blob());
      return await decoded(src).then(thumbnail).finally(() => URL.revokeObjectURL(src));
    } catch {
      return "";
    }
  }

  /** Keep the answers looked at last, and no more than there may be. */
  bound() {
    const kept = this.items.filter((item) => item.answer && item !== this.current);
    kept.sort((one, other) => other.looked - one.looked);
    for (const item of kept.slice(KEPT - 1)) item.release();
  }
}

function thumbnail(image) {
  if (!readable()) return "";
  const { naturalWidth: width, naturalHeight: height } = image;
  const scale = Math.min(1, THUMB / Math.max(width, height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  return canvas.toDataURL("image/jpeg", 0.8);
}
