// Asking the service, and its refusals in words. Addresses start where this file lies, so that the
// page works under any path prefix.

import { keyShown, newKey } from "./key.js";

const ROOT = new URL("../", import.meta.url);
const MOST_TRIES = 5; // of a service that has no place at the moment

export class Refusal extends Error {
  constructor(code, message = "") {
    super(message);
    this.code = code;
  }
}

/** Ask for a path; with `fields`, send them as a form. Throws a Refusal, or an AbortError. */
export async function ask(path, fields = null, signal = undefined) {
  const form = fields && formOf(fields);
  for (let tries = 1; ; tries += 1) {
    const key = keyShown();
    const response = await send(path, fields?.image, {
      method: form ? "POST" : "GET",
      headers: key ? { Authorization: `Bearer ${key}` } : {},
      body: form,
      signal,
    });
    if (response.ok && !isPage(response)) return response;
    const error = (await response.json().catch(() => null))?.error;
    const code = error?.code ?? `status ${response.status}`;
    if (code === "key_required" && (await newKey(key))) continue;
    if (code === "overloaded" && tries < MOST_TRIES) {
      await pause(Number(response.headers.get("Retry-After")) || 1, signal);
      continue;
    }
    throw new Refusal(code, error?.message);
  }
}

/** Whether something in front of the service has answered, such as a login: we send no pages here. */
function isPage(response) {
  return Boolean(response.headers.get("Content-Type")?.startsWith("text/html"));
}

function formOf(fields) {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) {
    if (name === "image") form.append(name, value, "image"); // its own name is nobody's business
    else if (value !== null && value !== undefined && value !== "") form.append(name, value);
  }
  return form;
}

async function send(path, file, options) {
  // Seen to first: a request with a file that is gone is never answered in Firefox.
  if (file && !(await opens(file))) throw new Refusal("file_gone");
  try {
    const response = await fetch(new URL(path, ROOT), options);
    return new Response(await response.arrayBuffer(), response); // all of it, or it is no answer
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new Refusal("no_answer");
  }
}

/** Whether there is anything to read; of a file that is gone, Chromium reads nothing without complaint. */
function opens(file) {
  return file.slice(0, 1).arrayBuffer().then((start) => start.byteLength > 0, () => false);
}

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, 1000 * seconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}

const STARTS = {
  unreadable: "This file can't be read as a picture",
  unsupported: "This kind of file can't be used",
  too_large: "This file is too large",
  too_slow: "Sending this file took too long",
  not_suitable: "This picture was not shown to the model",
  model_required: "Please choose a model",
  bad_option: "Please look at the options",
  model_unavailable: "The model is not available",
  overloaded: "The service is busy",
  key_required: "The service asks for a key",
  internal_error: "The service made a mistake",
};

const WHOLE = {
  no_answer: "The service does not answer. Is it running?",
  file_gone: "This file can't be opened or is empty. Is it a folder, or has it changed since?",
  // of what stands in front of the service
  "status 200": "Another page has answered in place of the service, perhaps one to log in. Please reload this one.",
  "status 413": "A proxy in front of the service lets no file through that is as large as this one.",
  "status 502": "A proxy in front of the service can't reach it. Is it running?",
  "status 503": "A proxy in front of the service can't reach it. Is it running?",
  "status 504": "A proxy in front of the service waited too long for its answer.",
};

/** What went wrong, for people. What is no refusal comes of an answer that makes no sense. */
export function inWords(error) {
  const { code, message } = error instanceof Refusal ? error : new Refusal("internal_error", error.message);
  if (WHOLE[code]) return WHOLE[code];
  if (code.startsWith("status ")) return `Something in front of the service refused this, with ${code}.`;
  const [reason] = message.split("; name one as"); // which is for programs
  const words = STARTS[code] ? `${STARTS[code]}: ${reason}.` : `${reason}.`;
  return code === "not_suitable" ? `${words} “More options” has a way to ask it anyway.` : words;
}
