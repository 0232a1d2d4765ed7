// The row of thumbnails. One of them is in the order of the Tab key, arrows go to the others.

import { $, element, percent, plain } from "./dom.js";

const REFUSED = {
  unreadable: "not read",
  unsupported: "not usable",
  too_large: "too large",
  not_suitable: "not suitable",
  model_required: "model?",
};

const rows = new Map(); // item → its row

/** Draw the row anew; elements stay, so that the focus does too. */
export function drawStrip(tray) {
  $("tray").hidden = !tray.items.length;
  $("clear").hidden = tray.items.length < 2;
  for (const item of rows.keys()) if (!tray.items.includes(item)) rows.delete(item);
  const wanted = tray.items.map((item) => {
    if (!rows.has(item)) rows.set(item, rowOf(item, tray));
    return rows.get(item);
  });
  if (wanted.length !== $("strip").children.length || wanted.some((row, at) => row !== $("strip").children[at])) {
    $("strip").replaceChildren(...wanted);
  }
  tray.items.forEach((item, at) => drawRow(rows.get(item), item, at, tray));
}

function rowOf(item, tray) {
  const image = element("img", { alt: "", hidden: true });
  const thumb = element("button", { type: "button", className: "thumb", title: item.file.name },
    image, element("span", { className: "thumb-words" }));
  const remove = element("button", { type: "button", className: "remove", textContent: "×" });
  thumb.addEventListener("click", () => tray.choose(item));
  remove.addEventListener("click", () => removed(tray, item));
  return element("li", {}, thumb, remove);
}

function drawRow(row, item, at, tray) {
  const [thumb, remove] = row.children;
  const [image, words] = thumb.children;
  const current = item === tray.current;
  if (image.getAttribute("src") !== item.thumb && item.thumb) image.src = item.thumb;
  image.hidden = !item.thumb;
  row.className = item.state;
  const short = item.state === "refused" ? REFUSED[item.code] ?? "no answer" : `${item.state}…`;
  const best = item.best && `${percent(item.best.probability)} ${plain(item.best.label)}`;
  words.textContent = item.state === "answered" ? best : short;
  const long = item.state === "refused" ? item.words : best ?? short;
  thumb.setAttribute("aria-label", `Picture ${at + 1} of ${tray.items.length}: ${long}`);
  thumb.setAttribute("aria-current", String(current));
  remove.setAttribute("aria-label", `Remove picture ${at + 1}`);
  remove.title = "Remove (Delete)";
  thumb.tabIndex = remove.tabIndex = current ? 0 : -1;
  if (current && !row.dataset.current) show(row);
  row.dataset.current = current ? "yes" : "";
}

/** Move the thumbnails alone: the page would move the picture out of sight. */
function show(row) {
  const [one, all] = [row, $("strip")].map((each) => each.getBoundingClientRect());
  $("strip").scrollBy(Math.max(0, one.right - all.right) + Math.min(0, one.left - all.left), 0);
}

function removed(tray, item) {
  tray.remove(item);
  const next = rows.get(tray.current);
  (next ? next.firstChild : $("file")).focus();
}

/** Walk along the row with the keys of lists. */
export function walk(tray) {
  $("strip").addEventListener("keydown", (event) => {
    const last = tray.items.length - 1;
    const to = {
      ArrowRight: tray.index + 1,
      ArrowLeft: tray.index - 1,
      Home: 0,
      End: last,
    }[event.key];
    if (event.key === "Delete" || event.key === "Backspace") {
      removed(tray, tray.current);
    } else if (to !== undefined) {
      if (to >= 0 && to <= last) tray.choose(tray.items[to]);
      rows.get(tray.current).firstChild.focus();
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  });
}
