// One picture, its heat, its scores. The service sends the picture and the heatmap of every class
// apart, so that moving the slider or choosing another class asks nobody.

const $ = (id) => document.getElementById(id);

let file = null;      // the picture in question
let pending = null;   // the request under way, aborted by the next one
let layers = {};      // label → {peak, heatmap}
let chosen = null;    // the label explained

async function loadModels() {
  try {
    const { models } = await ask("models");
    for (const { name, labels } of models) {
      $("model").add(new Option(`${name} (${labels.length} classes)`, name));
    }
    if (models.length === 1) $("model").value = models[0].name;
    if (!models.length) complain("The service has no model to offer at the moment.");
  } catch (error) {
    complain(inWords(error));
  }
}

async function explain() {
  if (!file) return;
  pending?.abort();
  const mine = (pending = new AbortController());
  complain("");
  $("answer").hidden = true;
  $("heat").hidden = true;
  $("status").textContent = "Reading the picture…";
  document.body.classList.add("busy");
  const form = new FormData();
  form.append("image", file, "image"); // its own name is nobody's business
  form.append("output", "layers");
  if ($("model").value) form.append("model", $("model").value);
  if ($("frame").value) form.append("frame", $("frame").value);
  if ($("force").checked) form.append("force", "true");
  try {
    const report = await ask("explain", { method: "POST", body: form, signal: mine.signal });
    if (pending === mine) await show(report);
  } catch (error) {
    if (mine.signal.aborted) return;
    forget();
    complain(inWords(error));
  } finally {
    if (pending === mine) {
      $("status").textContent = "";
      document.body.classList.remove("busy");
    }
  }
}

async function ask(path, options) {
  const response = await fetch(path, options);
  const body = await response.json().catch(() => null);
  if (response.ok && body) return body;
  throw Object.assign(new Error(body?.error?.message ?? ""), {
    code: body?.error?.code ?? `status ${response.status}`,
  });
}

function inWords({ code, message }) {
  const start = {
    unreadable: "This file can't be read as a picture",
    unsupported: "This kind of file can't be used",
    too_large: "This file is too large",
    not_suitable: "This picture was not shown to the model",
    model_required: "Please choose a model",
    bad_option: "Please look at the options",
    model_unavailable: "The model is not available",
    internal_error: "The service made a mistake",
  }[code];
  if (start) return `${start}: ${message}.`;
  return code ? `${message || code}.` : "The service does not answer. Is it running?";
}

function complain(words) {
  $("error").textContent = words;
  $("error").hidden = !words;
}

function show(report) {
  layers = Object.fromEntries(report.layers.map((layer) => [layer.label, layer]));
  $("picture").src = png(report.picture);
  $("figure").style.setProperty("--ratio", report.image.width / report.image.height);
  $("figure").hidden = false;
  $("invitation").classList.add("away");
  $("file").tabIndex = -1; // from here on there is a button for it
  $("again").hidden = false;
  $("opacity").disabled = false;

  $("forced").hidden = !report.forced;
  $("forced").textContent = report.forced
    ? `Forced: the file contradicts the model (${report.overridden}). Trust this answer even less.`
    : "";
  $("remark").hidden = !report.remark;
  $("remark").textContent = report.remark
    ? `This picture is ${report.remark}. Trust this answer less.`
    : "";
  $("bars").replaceChildren(...report.predictions.map(bar));
  $("facts").replaceChildren(...facts(report));
  $("answer").hidden = false;
  return choose(report.predictions[0].label);
}

function forget() {
  layers = {};
  $("figure").hidden = true;
  $("invitation").classList.remove("away");
  $("file").tabIndex = 0;
  $("again").hidden = true;
  $("scale").classList.add("none");
  $("opacity").disabled = true;
  $("evidence").textContent = "";
}

function bar({ label, probability, operating_point, found }, index) {
  const percent = `${(100 * probability).toFixed(1)} %`;
  const row = element("label", { className: found ? "bar found" : "bar" });
  const radio = element("input", { type: "radio", name: "target", value: label, checked: !index });
  radio.addEventListener("change", () => choose(label));
  const track = element("span", { className: "track" });
  const fill = element("span", { className: "fill" });
  fill.style.width = `${100 * probability}%`;
  const tick = element("i", { className: "tick", title: `operating point ${operating_point}` });
  tick.style.left = `${100 * operating_point}%`;
  track.append(fill, tick);
  row.append(
    radio,
    element("span", { className: "name", textContent: label.replaceAll("_", " ") }),
    element("span", { className: "percent", textContent: percent }),
    track,
    element("span", {
      className: "unseen",
      textContent: found ? "found: reaches its operating point" : "below its operating point",
    }),
  );
  return row;
}

async function choose(label) {
  chosen = label;
  const { peak, heatmap } = layers[label];
  const name = label.replaceAll("_", " ");
  $("evidence").textContent =
    peak > 0 ? `Shown: evidence for ${name}.` : `There is no positive evidence for ${name}.`;
  $("heat").setAttribute("aria-label", `Where the model sees evidence for ${name}`);
  $("heat").hidden = !(peak > 0);
  $("scale").classList.toggle("none", !(peak > 0));
  $("peak").textContent = `${Number(peak.toPrecision(2))} logits`;
  const image = element("img", { src: png(heatmap) });
  await image.decode();
  if (chosen === label) paint(image);
}

// Each pixel's heat is its color and how much of it is seen, as in the overlay of the service.
function paint(image) {
  const canvas = $("heat");
  canvas.width = image.naturalWidth;
  canvas.height = image.naturalHeight;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
  for (let at = 0; at < pixels.data.length; at += 4) {
    const heat = pixels.data[at];
    pixels.data.set(TURBO[heat], at);
    pixels.data[at + 3] = heat;
  }
  context.putImageData(pixels, 0, 0);
  fade();
}

// The colormap "turbo" as polynomials, by its author: A. Mikhailov, Google, 2019 (Apache-2.0).
const TURBO = Array.from({ length: 256 }, (_, heat) =>
  [
    [0.13572138, 4.6153926, -42.66032258, 132.13108234, -152.94239396, 59.28637943],
    [0.09140261, 2.19418839, 4.84296658, -14.18503333, 4.27729857, 2.82956604],
    [0.1066733, 12.64194608, -60.58204836, 110.36276771, -89.90310912, 27.34824973],
  ].map((factors) => 255 * factors.reduceRight((sum, factor) => sum * (heat / 255) + factor, 0)),
);

function fade() {
  $("opacity-value").textContent = `${$("opacity").value} %`;
  $("heat").style.opacity = $("opacity").value / 100;
}

function facts({ model, image, request_id }) {
  const about = [image.kind.toUpperCase(), `${image.width} × ${image.height}`];
  if (image.frames > 1) about.push(`frame ${image.frame} of ${image.frames}`);
  const header = [image.modality, image.body_part, image.view].filter(Boolean);
  if (header.length) about.push(header.join(" "));
  return [
    ["Picture", about.join(", ")],
    ["Model", `${model.name} ${model.version}, digest ${model.sha256.slice(0, 12)}…`],
    ["Use", model.use],
    ["Licence", model.license],
    ["Request", request_id],
  ].flatMap(([term, text]) => [
    element("dt", { textContent: term }),
    element("dd", { textContent: text }),
  ]);
}

function element(tag, properties) {
  return Object.assign(document.createElement(tag), properties);
}

function png(base64) {
  return `data:image/png;base64,${base64}`;
}

function take(files) {
  if (!files.length) return;
  if (files.length > 1) return complain("One picture at a time, please.");
  file = files[0];
  explain();
}

$("file").addEventListener("change", () => {
  take($("file").files);
  $("file").value = ""; // so that the same file can be chosen again
});
$("again").addEventListener("click", () => $("file").click());
$("opacity").addEventListener("input", fade);
for (const id of ["model", "frame", "force"]) $(id).addEventListener("change", explain);
$("question").addEventListener("submit", (event) => event.preventDefault());

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
  take(event.dataTransfer.files);
});

loadModels();
