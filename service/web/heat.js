// A heatmap as colors or as lines, drawn as the service draws them.

import { decoded, readable } from "./dom.js";

export const LEVELS = [0.25, 0.5, 0.75]; // where contour lines run, as shares of the peak

// The colormap "turbo" as polynomials, by its author: A. Mikhailov, Google, 2019 (Apache-2.0).
const TURBO = Array.from({ length: 256 }, (_, heat) =>
  [
    [0.13572138, 4.6153926, -42.66032258, 132.13108234, -152.94239396, 59.28637943],
    [0.09140261, 2.19418839, 4.84296658, -14.18503333, 4.27729857, 2.82956604],
    [0.1066733, 12.64194608, -60.58204836, 110.36276771, -89.90310912, 27.34824973],
  ].map((factors) => 255 * factors.reduceRight((sum, factor) => sum * (heat / 255) + factor, 0)),
);

/** The heat of a gray picture: {width, height, values}, 0 to 255, row by row; null if it can't be read. */
export async function heatOf(src) {
  if (!readable()) return null;
  const image = await decoded(src);
  const { naturalWidth: width, naturalHeight: height } = image;
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const { data } = context.getImageData(0, 0, width, height);
  return { width, height, values: Uint8Array.from({ length: width * height }, (_, at) => data[4 * at]) };
}

/** Each pixel's heat is its color and how much of it is seen. */
export function paint(canvas, { width, height, values }) {
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(width, height);
  values.forEach((heat, at) => {
    pixels.data.set(TURBO[heat], 4 * at);
    pixels.data[4 * at + 3] = heat;
  });
  context.putImageData(pixels, 0, 0);
}

/** Lines at `LEVELS`, dark-rimmed to be seen on white, as thin at every zoom. */
export function outline(svg, heat) {
  svg.setAttribute("viewBox", `0 0 ${heat.width} ${heat.height}`);
  svg.replaceChildren(
    ...LEVELS.flatMap((level) => {
      const d = contour(heat, 255 * level);
      const [red, green, blue] = TURBO[Math.round(255 * level)].map(Math.round);
      return ["#000", `rgb(${red},${green},${blue})`].map((stroke) => {
        const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
        path.setAttribute("d", d);
        path.setAttribute("stroke", stroke);
        return path;
      });
    }),
  );
}

// Marching squares: each square between four neighbors is crossed by the line or not, and the
// pieces need not be joined to be drawn.
export function contour({ width, height, values }, level) {
  const pieces = [];
  for (let y = 0; y + 1 < height; y += 1) {
    for (let x = 0; x + 1 < width; x += 1) {
      const at = y * width + x;
      // clockwise: the corners of the square, and where they are
      const corners = [values[at], values[at + 1], values[at + width + 1], values[at + width]];
      const places = [[x, y], [x + 1, y], [x + 1, y + 1], [x, y + 1]];
      const crossings = [];
      for (let side = 0; side < 4; side += 1) {
        const [from, to] = [corners[side], corners[(side + 1) % 4]];
        if (from >= level === to >= level) continue;
        const share = (level - from) / (to - from);
        const [[x1, y1], [x2, y2]] = [places[side], places[(side + 1) % 4]];
        // half a pixel on: heat is known in the middle of pixels
        crossings.push([x1 + share * (x2 - x1) + 0.5, y1 + share * (y2 - y1) + 0.5]);
      }
      for (let one = 0; one + 1 < crossings.length; one += 2) {
        const [[x1, y1], [x2, y2]] = [crossings[one], crossings[one + 1]];
        pieces.push(`M${x1.toFixed(2)} ${y1.toFixed(2)}L${x2.toFixed(2)} ${y2.toFixed(2)}`);
      }
    }
  }
  return pieces.join("");
}
