// What is taken home: the service's own overlay with its scale, or the picture alone; the answer; the
// Secondary Capture. Names are made of the model and the file's digest: file names are often patients'
// names.

import { ask, inWords } from "./api.js";
import { element, say } from "./dom.js";

const LARGEST = 2048; // pixels of the longer side

/** Ask for the picture under its overlay as it is shown, and save it; `kind` is "overlay" or "dicom". */
export async function saveOverlay(item, label, look, kind) {
  const fields = {
    ...item.fields,
    model: item.answer.model.name,
    target: label,
    output: kind,
    ...look,
    ...seenAs(item),
  };
  await guarded(async () => {
    const name = nameOf(item.answer, label);
    const response = await ask("explain", fields);
    save(await response.blob(), `${name}.${kind === "dicom" ? "dcm" : "png"}`);
  });
}

/** The same of the picture alone. */
export async function savePicture(item) {
  const fields = { image: item.file, frame: item.options.frame, ...seenAs(item) };
  await guarded(async () => {
    const name = nameOf(item.answer);
    const response = await ask("picture", fields);
    save(await response.blob(), `${name}.png`);
  });
}

/** Save the answer without its pictures. */
export async function saveReport(item) {
  const { picture, layers, ...report } = item.answer;
  const shown = item.window ? { ...report.shown, ...item.window, source: "chosen" } : report.shown;
  const evidence = layers.map(({ label, peak }) => ({ label, peak }));
  const text = JSON.stringify({ ...report, shown, evidence }, null, 2);
  await guarded(() => save(new Blob([text], { type: "application/json" }), `${nameOf(report)}.json`));
}

/** Fields that say how large a picture shall be, and through which window it is seen. */
function seenAs({ window }) {
  const chosen = window && { window_center: window.center, window_width: window.width };
  return { max_side: LARGEST, ...chosen };
}

function nameOf({ model, image }, label = "") {
  return ["care", model.name, label, image.sha256.slice(0, 8)]
    .filter(Boolean)
    .join("-")
    .replace(/[^A-Za-z0-9._-]+/g, "_");
}

function save(blob, name) {
  const href = URL.createObjectURL(blob);
  element("a", { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), 60_000); // not before the browser has read it
}

async function guarded(work) {
  say("save-problem", "");
  try {
    await work();
  } catch (error) {
    say("save-problem", `Not saved. ${inWords(error)}`);
  }
}
