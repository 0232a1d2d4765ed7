// Single keys as shortcuts, and the list of them in the help.

import { $, element } from "./dom.js";

const TYPED = "input:not([type=radio]):not([type=checkbox]):not([type=range]), select, textarea";

/**
 * Let keys do something, and list them in the help.
 *
 * Each shortcut is {keys, words, run, hint}: `keys` as in KeyboardEvent.key, with "Shift+" in front
 * where that is meant; `hint` is how the help spells them. Those with `on` count only while that
 * element has the focus. `run` may return false: then the key is the browser's.
 */
export function shortcuts(all) {
  $("shortcuts").replaceChildren(
    ...all.map(({ keys, words, hint = keys }) =>
      element("tr", {},
        element("th", { scope: "row" }, ...hint.map((key) => element("kbd", { textContent: key }))),
        element("td", { textContent: words }),
      ),
    ),
  );
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (document.querySelector("dialog[open]") || event.target.closest?.(TYPED)) return;
    const arrow = event.key.startsWith("Arrow");
    const key = arrow && event.shiftKey ? `Shift+${event.key}` : event.key;
    const found = all.find(
      ({ keys, on }) => keys.includes(key) && (!on || on.contains(event.target)),
    );
    if (!found || !(found.on || $("shortcuts-on").checked)) return;
    if (found.run(key) !== false) event.preventDefault();
  });
}
