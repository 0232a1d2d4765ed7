// What a model says of a picture, in bars and words.

import { $, element, percent, plain, say } from "./dom.js";

/** Draw a report; `choose(label)` is called with the class to explain. */
export function drawAnswer(report, chosen, choose) {
  say("forced", report.forced
    ? `Forced: the file contradicts the model (${report.overridden}). Trust this answer even less.`
    : "");
  say("remark", report.remark ? `This picture is ${report.remark}. Trust this answer less.` : "");
  $("bars").replaceChildren(...report.predictions.map((one) => bar(one, chosen, choose)));
  $("facts").replaceChildren(...facts(report));
}

function bar({ label, probability, operating_point, found }, chosen, choose) {
  const radio = element("input", { type: "radio", name: "target", value: label, checked: label === chosen });
  radio.addEventListener("change", () => choose(label));
  const fill = element("span", { className: "fill" });
  fill.style.width = `${100 * probability}%`;
  const tick = element("i", { className: "tick", title: `operating point ${percent(operating_point)}` });
  tick.style.left = `${100 * operating_point}%`;
  return element("label", { className: found ? "bar found" : "bar" },
    radio,
    element("span", { className: "name", textContent: plain(label) }),
    element("span", { className: "percent", textContent: percent(probability) }),
    element("span", { className: "track" }, fill, tick),
    element("span", {
      className: "unseen",
      textContent: found ? "found: reaches its operating point" : "below its operating point",
    }),
  );
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

/** What nobody may miss who looks at the heat of a class. */
export function warnings(report, label) {
  const { found } = report.predictions.find((one) => one.label === label);
  return [
    report.forced && "forced: not suitable",
    report.remark,
    !found && `${plain(label)}: below its operating point`,
  ].filter(Boolean);
}

/** What is shown of a class, in a sentence. */
export function evidence(report, label) {
  const { peak } = report.layers.find((layer) => layer.label === label);
  const name = plain(label);
  return peak > 0 ? `Shown: evidence for ${name}.` : `There is no positive evidence for ${name}.`;
}
