// Where a picture is seen: how large, and which of its points lies in the middle of the pane. Panes
// of one size share a view, so that what is seen beside each other is the same.

const STEP = 1.4;
const CLOSEST = 8; // screen pixels per pixel of the picture

export class View {
  constructor(changed) {
    this.changed = changed;
    this.picture = { width: 1, height: 1 };
    this.pane = { width: 1, height: 1 };
    Object.assign(this, { zoom: 1, x: 0.5, y: 0.5 });
  }

  /** The whole of the picture. */
  fit() {
    this.set(1, 0.5, 0.5);
  }

  /** Show pictures of this size in pixels. */
  of(picture) {
    this.picture = picture;
    this.fit();
  }

  /** Panes have this size in pixels from now on. */
  within(pane) {
    this.pane = pane;
    this.set(this.zoom, this.x, this.y);
  }

  /** Size of the picture at zoom 1, in pixels of the screen. */
  get fitted() {
    const { width, height } = this.picture;
    const scale = Math.min(this.pane.width / width, this.pane.height / height);
    return { width: scale * width, height: scale * height };
  }

  get closest() {
    return Math.max(4, (CLOSEST * this.picture.width) / this.fitted.width);
  }

  set(zoom, x, y) {
    this.zoom = Math.min(Math.max(zoom, 1), this.closest);
    const { width, height } = this.fitted;
    this.x = within(x, this.pane.width / (width * this.zoom));
    this.y = within(y, this.pane.height / (height * this.zoom));
    this.changed(this);
  }

  /** Zoom so that the point under the pointer, counted from the pane's middle, stays there. */
  zoomAt(factor, right = 0, down = 0) {
    const { width, height } = this.fitted;
    const [x, y] = [this.x + right / (width * this.zoom), this.y + down / (height * this.zoom)];
    const zoom = Math.min(Math.max(this.zoom * factor, 1), this.closest);
    this.set(zoom, x - right / (width * zoom), y - down / (height * zoom));
  }

  closer(right, down) {
    this.zoomAt(STEP, right, down);
  }

  farther(right, down) {
    this.zoomAt(1 / STEP, right, down);
  }

  /** Move what is seen, in pixels of the screen. */
  move(right, down) {
    const { width, height } = this.fitted;
    this.set(this.zoom, this.x - right / (width * this.zoom), this.y - down / (height * this.zoom));
  }

  /** Put an element of the pane where the picture is. */
  place(element) {
    const { width, height } = this.fitted;
    const left = this.pane.width / 2 - this.x * width * this.zoom;
    const top = this.pane.height / 2 - this.y * height * this.zoom;
    element.style.width = `${width}px`;
    element.style.height = `${height}px`;
    element.style.transform = `translate(${left}px, ${top}px) scale(${this.zoom})`;
  }

  get words() {
    return this.zoom === 1 ? "fit" : `× ${this.zoom.toFixed(1)}`;
  }
}

// A coordinate of the middle, so that no more than needed is seen beyond the picture's edges.
function within(middle, share) {
  return share >= 1 ? 0.5 : Math.min(Math.max(middle, share / 2), 1 - share / 2);
}
