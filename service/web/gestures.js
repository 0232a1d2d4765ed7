// What hands do on a picture: wheel, drags, pinches, double clicks and taps.

const TAP_MS = 350;
const TAP_PX = 8;

/**
 * Listen to an element.
 *
 * `on` is told of move(right, down), zoom(factor, right, down), twice(right, down), and of a drag
 * that changes the window: windowStart(), windowDrag(right, down) counted from its start,
 * windowEnd(). Points are counted from the middle of the pane they are in. `on.windows(event)` says
 * whether a drag that starts so changes the window.
 */
export function listen(stage, on) {
  const pointers = new Map();
  let dragging = null; // {x, y} where a drag of the window began
  let moved = 0;
  let last = { time: 0, x: 0, y: 0 };

  const middle = (event) => {
    const box = (event.target.closest?.(".pane") ?? stage).getBoundingClientRect();
    return [event.clientX - box.left - box.width / 2, event.clientY - box.top - box.height / 2];
  };

  stage.addEventListener("pointerdown", (event) => {
    if (event.button === 1) return;
    stage.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY, at: middle(event) });
    if (pointers.size === 1) {
      moved = 0;
      if (on.windows(event)) {
        dragging = { x: event.clientX, y: event.clientY };
        on.windowStart();
      }
    } else if (dragging) {
      dragging = null; // a second finger: it is a pinch
      on.windowEnd();
    }
  });

  stage.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) return;
    const [right, down] = [event.clientX - before.x, event.clientY - before.y];
    moved += Math.hypot(right, down);
    if (dragging) {
      on.windowDrag(event.clientX - dragging.x, event.clientY - dragging.y);
    } else if (pointers.size === 2) {
      const [, other] = [...pointers].find(([id]) => id !== event.pointerId);
      const apart = (point) => Math.hypot(point.x - other.x, point.y - other.y);
      const now = { x: event.clientX, y: event.clientY };
      const [x, y] = [(before.at[0] + other.at[0]) / 2, (before.at[1] + other.at[1]) / 2];
      on.move(right / 2, down / 2);
      on.zoom(apart(now) / Math.max(apart(before), 1), x, y);
    } else {
      on.move(right, down);
    }
    before.x = event.clientX;
    before.y = event.clientY;
    before.at = [before.at[0] + right, before.at[1] + down];
  });

  const up = (event) => {
    const pointer = pointers.get(event.pointerId);
    if (!pointers.delete(event.pointerId)) return;
    if (dragging) {
      dragging = null;
      on.windowEnd();
    }
    if (event.type === "pointercancel" || event.button !== 0 || pointers.size || moved > TAP_PX) return;
    const near = Math.hypot(event.clientX - last.x, event.clientY - last.y) < 4 * TAP_PX;
    if (near && event.timeStamp - last.time < TAP_MS) {
      on.twice(...pointer.at);
      last = { time: 0, x: 0, y: 0 };
    } else {
      last = { time: event.timeStamp, x: event.clientX, y: event.clientY };
    }
  };
  stage.addEventListener("pointerup", up);
  stage.addEventListener("pointercancel", up);

  stage.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 30 : 1;
      const speed = event.ctrlKey ? 0.01 : 0.002; // a pinch on a touchpad comes as small steps
      on.zoom(Math.exp(-event.deltaY * lines * speed), ...middle(event));
    },
    { passive: false },
  );
  stage.addEventListener("contextmenu", (event) => {
    if (on.windows({ button: 2 })) event.preventDefault();
  });
}
