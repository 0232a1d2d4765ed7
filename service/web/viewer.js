// The picture under its overlay: zoomed, moved, windowed, alone or beside itself without.

import { ask, inWords } from "./api.js";
import { $, decoded, plain, say } from "./dom.js";
import { listen } from "./gestures.js";
import { heatOf, outline, paint } from "./heat.js";
import { View } from "./view.js";
import { dragged, linear, origin, rounded, same } from "./windowing.js";

const SHARP = 4096; // pixels of the longer side, at most: what the service draws
const REST_MS = 250; // without a change, before the service is asked for another picture
const TWICE = 3; // what a double click zooms to

const PICTURES = ["picture", "plain"];

export class Viewer {
  constructor() {
    this.item = null;
    this.answer = null;
    this.style = "heat";
    this.tool = false;
    this.start = null; // the window where a drag of it began
    this.view = new View(() => this.place());
    new ResizeObserver(() => this.measure()).observe($("pane"));
    listen($("stage"), {
      move: (right, down) => this.view.move(right, down),
      zoom: (factor, right, down) => this.view.zoomAt(factor, right, down),
      twice: (right, down) =>
        this.view.zoom > 1 ? this.view.fit() : this.view.zoomAt(TWICE, right, down),
      windows: ({ button }) => Boolean(this.own) && (this.tool || button === 2),
      windowStart: () => (this.start = this.window),
      windowDrag: (right, down) => this.choose(dragged(this.start, this.own, right, down), false),
      windowEnd: () => {
        this.start = null;
        this.refresh(0);
      },
    });
  }

  /** Show an answered item. */
  async show(item) {
    if (item.answer !== this.answer) {
      this.item = item;
      this.answer = item.answer;
      say("view-problem", "");
      $("stage").hidden = false;
      this.measure();
      this.view.of(item.answer.image);
    }
    this.draw();
    await this.explain();
  }

  clear() {
    clearTimeout(this.timer);
    this.item = this.answer = null;
    say("view-problem", "");
    $("stage").hidden = true;
    for (const id of PICTURES) $(id).removeAttribute("src");
  }

  /** Draw the evidence for the item's class. */
  async explain() {
    const { answer, item: { label } } = this;
    const layer = answer.layers.find((one) => one.label === label);
    this.peak = layer.peak;
    this.heat = null;
    if (layer.peak > 0) {
      const heat = await heatOf(`data:image/png;base64,${layer.heatmap}`);
      if (this.answer !== answer || this.item.label !== label) return;
      this.heat = heat;
      const words = `Where the model sees evidence for ${plain(label)}`;
      for (const id of ["heat", "lines"]) $(id).setAttribute("aria-label", words);
      if (heat) paint($("heat"), heat);
      this.outlined = false;
    }
    $("heat-problem").hidden = Boolean(this.heat) || this.peak === 0;
    this.drawStyle();
  }

  /** "heat", "contour" or "off". */
  setStyle(style) {
    this.style = style;
    this.drawStyle();
  }

  setBeside(beside) {
    $("plain-pane").hidden = !beside;
    this.measure();
  }

  setTool(tool) {
    this.tool = tool;
    $("stage").classList.toggle("windows", tool && Boolean(this.own));
    this.touch();
  }

  drawStyle() {
    const lines = this.style === "contour" && Boolean(this.heat);
    if (lines && !this.outlined) {
      outline($("lines"), this.heat);
      this.outlined = true;
    }
    $("heat").hidden = this.style !== "heat" || !this.heat;
    $("lines").toggleAttribute("hidden", !lines);
    $("scale").classList.toggle("none", this.style === "off" || !this.heat);
    $("scale").classList.toggle("steps", lines);
    $("peak").textContent = `${Number((this.peak ?? 0).toPrecision(2))} logits`;
    $("opacity").disabled = this.style !== "heat";
  }

  fade(opacity) {
    $("heat").style.opacity = opacity;
  }

  measure() {
    const { clientWidth: width, clientHeight: height } = $("pane");
    if (width && height) this.view.within({ width, height });
  }

  place() {
    for (const stack of document.querySelectorAll(".stack")) this.view.place(stack);
    $("lines").style.setProperty("--thin", 1 / this.view.zoom);
    $("zoom").textContent = this.view.words;
    this.touch();
    if (this.item) this.refresh(REST_MS);
  }

  // A finger scrolls the page over a picture that is seen whole, unless it has a tool in hand.
  touch() {
    const held = this.view.zoom > 1 || (this.tool && this.own);
    $("stage").classList.toggle("held", Boolean(held));
  }

  // The window

  /** The file's own window, as the service told it; null where a picture has none. */
  get own() {
    return this.answer?.shown ?? null;
  }

  /** The one in force. */
  get window() {
    return this.item.window ?? this.own;
  }

  /** Look through another window, or with null through the file's own. */
  choose(window, rest = true) {
    if (!this.own) return;
    this.item.window = window && rounded(window, this.own);
    if (same(this.item.window, this.own)) this.item.window = null;
    this.draw();
    if (rest) this.refresh(REST_MS);
  }

  /** Change the window by steps: right is wider, up is brighter. */
  nudge(right, up) {
    if (this.own) this.choose(dragged(this.window, this.own, 20 * right, -20 * up));
  }

  draw() {
    const { shown } = this.item;
    for (const id of PICTURES) if ($(id).getAttribute("src") !== shown.src) $(id).src = shown.src;
    const moved = this.own && !same(shown.window, this.window);
    if (moved) {
      const { slope, intercept } = linear(shown.window, this.window, this.own.inverted);
      for (const part of $("windowing").firstElementChild.children) {
        part.setAttribute("slope", slope);
        part.setAttribute("intercept", intercept);
      }
    }
    for (const id of PICTURES) $(id).style.filter = moved ? "url(#windowing)" : "";
    $("window").hidden = $("window-tool").hidden = !this.own;
    $("stage").classList.toggle("windows", this.tool && Boolean(this.own));
    if (!this.own) return;
    for (const name of ["center", "width"]) {
      if (document.activeElement !== $(name)) $(name).value = this.window[name];
    }
    say("window-source", origin(this.item.window ? "chosen" : this.own.source));
    $("window-reset").disabled = !this.item.window;
  }

  // What the service has to draw

  /** Once nothing has changed for a while, get the picture as it should be seen, if it is not. */
  refresh(delay) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.fetch(), delay);
  }

  /** Pixels that the longer side should have to be sharp at this zoom. */
  get side() {
    const { width, height } = this.view.fitted;
    const { image } = this.answer;
    const pixels = Math.max(width, height) * this.view.zoom * devicePixelRatio;
    const most = Math.min(SHARP, Math.max(image.width, image.height));
    return pixels > this.item.shown.side && most > this.item.shown.side ? SHARP : null;
  }

  async fetch() {
    const { item, answer } = this;
    if (!item?.shown || this.start) return; // a drag comes to its end first
    const [window, side] = [this.window, this.side];
    const windowed = !same(item.shown.window, window);
    if (!side && !windowed) return;
    const fields = { image: item.file, frame: item.options.frame };
    fields.max_side = side ?? Math.max(item.shown.side, 64);
    if (item.window) Object.assign(fields, { window_center: window.center, window_width: window.width });
    this.abort?.abort();
    this.abort = new AbortController();
    const { signal } = this.abort;
    try {
      const response = await ask("picture", fields, signal);
      const src = URL.createObjectURL(await response.blob());
      const image = await decoded(src);
      if (item.answer !== answer || signal.aborted) return URL.revokeObjectURL(src);
      item.show({ src, window, side: Math.max(image.naturalWidth, image.naturalHeight) });
      if (this.item !== item) return;
      say("view-problem", "");
      this.draw();
    } catch (error) {
      if (signal.aborted || this.item !== item) return;
      say("view-problem", `The picture is not drawn anew. ${inWords(error)}`);
    }
  }
}
