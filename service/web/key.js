// The API key, where the service asks for one: in this tab alone, until it is closed.

import { $ } from "./dom.js";

const NAME = "care-api-key";

let asking = null; // one dialog for all requests that wait for it

export function keyShown() {
  return sessionStorage.getItem(NAME) ?? "";
}

/** Ask the person for a key in place of a refused one. False if there is none to be had. */
export function newKey(refused) {
  if (keyShown() !== refused) return Promise.resolve(true); // it came while that request was out
  asking ??= dialog(refused).finally(() => (asking = null));
  return asking;
}

function dialog(refused) {
  $("key-problem").hidden = !refused;
  $("key").value = "";
  $("key-dialog").returnValue = "";
  $("key-dialog").showModal();
  return new Promise((resolve) => {
    $("key-dialog").addEventListener(
      "close",
      () => {
        const key = $("key").value.trim();
        $("key").value = "";
        if ($("key-dialog").returnValue !== "use" || !key) return resolve(false);
        sessionStorage.setItem(NAME, key);
        resolve(true);
      },
      { once: true },
    );
  });
}
