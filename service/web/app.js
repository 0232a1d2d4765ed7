// The page: puts its parts together. What happens to a picture is in viewer.js, which pictures
// there are in tray.js, what is asked of the service in api.js.

import { drawAnswer, evidence, warnings } from "./answer.js";
import { ask, inWords } from "./api.js";
import { $, element, say } from "./dom.js";
import { shortcuts } from "./keys.js";
import { saveOverlay, savePicture, saveReport } from "./save.js";
import { drawStrip, walk } from "./strip.js";
import { Tray } from "./tray.js";
import { Viewer } from "./viewer.js";

const viewer = new Viewer();
const tray = new Tray((item) => {
  drawStrip(tray);
  if (!item || item === tray.current) draw();
});
let lastModel = "";
let drawn = null; // the answer in the bars

async function loadModels() {
  try {
    const { models } = await (await ask("models")).json();
    if ($("model").length > 1) return; // another request for them was faster
    say("notice-models", "");
    for (const { name, labels } of models) {
      $("model").add(new Option(`${name} (${labels.length} classes)`, name));
    }
    if (models.length === 1) $("model").value = lastModel = models[0].name;
    if (tray.current?.lacksModel) draw();
    if (!models.length) say("notice-models", "The service has no model to offer at the moment.");
  } catch (error) {
    say("notice-models", inWords(error));
  }
}

function draw() {
  const item = tray.current;
  const answered = Boolean(item?.answer);
  $("invitation").classList.toggle("away", Boolean(item));
  $("file").hidden = Boolean(item); // from here on there is a button for it
  for (const id of ["tools", "under"]) {
    $(id).hidden = !item;
    $(id).inert = !answered; // and not hidden: what is beside it should not jump
  }
  $("answer").hidden = !answered;
  say("error", item?.state === "refused" ? item.words : "");
  if (item?.lacksModel) offerModels();
  $("status").textContent = statusOf(item);
  document.body.classList.toggle("busy", Boolean(item) && !answered && item.state !== "refused");
  $("model").value = item?.options.model ?? lastModel;
  $("frame").value = item?.options.frame ?? "";
  $("force").checked = Boolean(item?.options.force);
  if (!answered) {
    drawn = null;
    return viewer.clear();
  }
  if (item.answer !== drawn) {
    drawn = item.answer;
    drawAnswer(item.answer, item.label, choose);
    say("save-problem", "");
    const dicom = item.answer.image.kind === "dicom";
    $("save-dicom").hidden = $("dicom-hint").hidden = !dicom;
  }
  drawEvidence();
  return viewer.show(item);
}

/** Behind the words that a model has to be chosen: a button for each. */
function offerModels() {
  const names = [...$("model").options].map((option) => option.value).filter(Boolean);
  const buttons = names.map((name) =>
    element("button", { type: "button", textContent: name, onclick: () => chooseModel(name) }),
  );
  $("error").append(element("span", { className: "offer" }, ...buttons));
}

function statusOf(item) {
  return item && !item.answer && item.state !== "refused" ? "Reading the picture…" : "";
}

function drawEvidence() {
  const { answer, label } = tray.current;
  $("evidence").textContent = evidence(answer, label);
  $("badges").replaceChildren(
    ...warnings(answer, label).map((textContent) => element("li", { textContent })),
  );
}

function choose(label) {
  tray.current.label = label;
  drawEvidence();
  viewer.explain();
}

function add(files) {
  if (!$("notice-models").hidden) loadModels(); // perhaps there is a key by now, or a service
  tray.add(files, lastModel);
}

// How it is shown

function style() {
  return document.querySelector("[name=style]:checked").value;
}

function setStyle(value) {
  document.querySelector(`[name=style][value=${value}]`).checked = true;
  viewer.setStyle(value);
}

function toggle(id, set) {
  const pressed = $(id).getAttribute("aria-pressed") !== "true";
  $(id).setAttribute("aria-pressed", String(pressed));
  set(pressed);
}

function fade() {
  $("opacity-value").textContent = `${$("opacity").value} %`;
  viewer.fade($("opacity").value / 100);
}

function look() {
  return { style: style() === "contour" ? "contour" : "heat", opacity: $("opacity").value / 100 };
}

function saveShown() {
  return style() === "off" ? savePicture(tray.current) : save("overlay");
}

function save(kind) {
  return saveOverlay(tray.current, tray.current.label, look(), kind);
}

const view = () => viewer.view;
const beside = () => toggle("beside", (on) => viewer.setBeside(on));
const tool = () => toggle("window-tool", (on) => viewer.setTool(on));
const STEP = 60; // pixels that an arrow key moves the picture

$("zoom-in").addEventListener("click", () => view().closer());
$("zoom-out").addEventListener("click", () => view().farther());
$("zoom-fit").addEventListener("click", () => view().fit());
$("beside").addEventListener("click", beside);
$("window-tool").addEventListener("click", tool);
$("styles").addEventListener("change", () => viewer.setStyle(style()));
$("opacity").addEventListener("input", fade);
$("window").addEventListener("change", ({ target }) => {
  const [center, width] = [$("center").valueAsNumber, $("width").valueAsNumber];
  if (Number.isFinite(center) && width > 0) viewer.choose({ center, width });
  target.value = viewer.window[target.id]; // rounded, or as it was
});
$("window-reset").addEventListener("click", () => viewer.choose(null));
$("save-overlay").addEventListener("click", saveShown);
$("save-dicom").addEventListener("click", () => save("dicom"));
$("save-report").addEventListener("click", () => saveReport(tray.current));

// What is asked

function chooseModel(name) {
  lastModel = name;
  tray.option("model", name);
}

$("model").addEventListener("change", () => chooseModel($("model").value));
$("frame").addEventListener("change", () => tray.option("frame", $("frame").value));
$("force").addEventListener("change", () => tray.option("force", $("force").checked));
for (const id of ["question", "window"]) {
  $(id).addEventListener("submit", (event) => event.preventDefault());
}

// Which pictures

$("file").addEventListener("change", () => {
  add([...$("file").files]);
  $("file").value = ""; // so that the same file can be chosen again
});
$("add").addEventListener("click", () => $("file").click());
$("clear").addEventListener("click", () => {
  tray.clear();
  $("file").focus();
});
addEventListener("paste", (event) => add(event.clipboardData.files));
// Anywhere on the page, or the browser would open the file in our place.
addEventListener("dragover", (event) => {
  event.preventDefault();
  $("drop").classList.add("over");
});
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) $("drop").classList.remove("over");
});
addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  add(event.dataTransfer.files);
});

// Keys

const shown = (run) => (key) => (tray.current?.answer ? run(key) : false);
const ARROWS = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
const arrows = Object.keys(ARROWS);

shortcuts([
  { keys: ["?"], words: "this help", run: () => $("help").showModal() },
  { keys: ["o"], words: "choose files", run: () => $("file").click() },
  { keys: ["n"], words: "next picture", run: () => tray.step(1) },
  { keys: ["p"], words: "previous picture", run: () => tray.step(-1) },
  { keys: ["+", "="], hint: ["+"], words: "zoom in", run: shown(() => view().closer()) },
  { keys: ["-"], hint: ["−"], words: "zoom out", run: shown(() => view().farther()) },
  { keys: ["0"], words: "show the whole picture", run: shown(() => view().fit()) },
  {
    keys: arrows,
    hint: ["← ↑ → ↓"],
    words: "move the picture, while it has the focus",
    on: $("stage"),
    run: (key) => view().move(-STEP * ARROWS[key][0], STEP * ARROWS[key][1]),
  },
  {
    keys: arrows.map((key) => `Shift+${key}`),
    hint: ["Shift", "← ↑ → ↓"],
    words: "window: narrower, brighter, wider, darker, while it has the focus",
    on: $("stage"),
    run: (key) => viewer.nudge(...ARROWS[key.slice("Shift+".length)]),
  },
  { keys: ["r"], words: "window as the file has it", run: shown(() => viewer.choose(null)) },
  { keys: ["w"], words: "a drag changes the window, or moves the picture", run: shown(() => viewer.own && tool()) },
  { keys: ["h"], words: "overlay on or off", run: shown(() => setStyle(style() === "off" ? "heat" : "off")) },
  { keys: ["c"], words: "contour or heat", run: shown(() => setStyle(style() === "contour" ? "heat" : "contour")) },
  { keys: ["s"], words: "with and without overlay, side by side", run: shown(beside) },
  {
    keys: [..."123456789"],
    hint: ["1 … 9"],
    words: "explain the first, second, … class",
    run: shown((key) => document.querySelectorAll("[name=target]")[key - 1]?.click()),
  },
  { keys: ["d"], words: "save the picture as it is shown", run: shown(saveShown) },
]);
$("help-button").addEventListener("click", () => $("help").showModal());
walk(tray);
addEventListener("pageshow", () => {
  viewer.setStyle(style()); // the browser puts back what was chosen when someone returns
  fade();
  draw();
});
loadModels();
