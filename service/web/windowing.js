// Window and level of a gray DICOM picture. Moving them asks nobody: the picture at hand is made
// brighter and steeper, as far as its 8 bits go. At rest, the service draws it anew from the file.

const PIXELS = 400; // of a drag that doubles the file's own width
const ROUGH = 100; // from this width on, values are whole numbers

/** The window after a drag, in pixels from its start: across the width, upwards brighter. */
export function dragged(start, own, right, down) {
  const step = own.width / PIXELS;
  const center = start.center + (own.inverted ? -down : down) * step;
  return rounded({ center, width: start.width + right * step }, own);
}

/** A window as a person may have it: no narrower than makes sense, no more digits than that. */
export function rounded({ center, width }, own) {
  const least = own.width >= ROUGH ? 1 : own.width / 1000;
  const digits = own.width >= ROUGH ? 0 : 3 - Math.floor(Math.log10(own.width));
  const round = (value) => Number(value.toFixed(Math.min(Math.max(digits, 0), 12)));
  return { center: round(center), width: Math.max(round(width), Number(least.toPrecision(1))) };
}

/** {slope, intercept} that turn brightness seen through one window into that through another. */
export function linear(from, to, inverted) {
  const slope = from.width / to.width;
  const intercept = (from.center - from.width / 2 - to.center) / to.width + 0.5;
  return { slope, intercept: inverted ? 1 - slope - intercept : intercept };
}

export function same(one, other) {
  return one?.center === other?.center && one?.width === other?.width;
}

/** Where the window in force comes from, in words. */
export function origin(source) {
  return {
    file: "from the file",
    table: "a table of the file",
    range: "all values there are",
    chosen: "chosen here",
  }[source];
}
