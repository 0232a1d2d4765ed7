// Short words for what every part of the page does.

export const $ = (id) => document.getElementById(id);

export function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/** Say something in an element, or hide it where there is nothing to say. */
export function say(id, words) {
  $(id).textContent = words;
  $(id).hidden = !words;
}

/** An image, decoded; rejects where it cannot be. */
export async function decoded(src) {
  const image = new Image();
  image.src = src;
  await image.decode();
  return image;
}

/** Whether a canvas gives back what was drawn; some browsers give noise, lest pages know them by it. */
export function readable() {
  const canvas = Object.assign(document.createElement("canvas"), { width: 8, height: 8 });
  const context = canvas.getContext("2d");
  context.fillStyle = "#808080";
  context.fillRect(0, 0, 8, 8);
  const { data } = context.getImageData(0, 0, 8, 8);
  return data.every((value, at) => at % 4 === 3 || Math.abs(value - 128) < 8);
}

export function plain(label) {
  return label.replaceAll("_", " ");
}

export function percent(probability) {
  return `${(100 * probability).toFixed(1)} %`;
}
