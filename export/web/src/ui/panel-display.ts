/** How image and mask are shown. */
import { decimal, make, say, type Words } from "./dom";
import type { Stage } from "./stage";
import { on, setDisplay, state } from "./state";

export function displayPanel(stage: Stage): HTMLElement {
  const low = level("windowLow", (value) => [value, stage.pane.viewer!.window[1]]);
  const high = level("windowHigh", (value) => [stage.pane.viewer!.window[0], value]);
  function level(words: Words, next: (value: number) => [number, number]) {
    return slider(words, { min: 0, max: 1000, value: 0 }, (at) => {
      const { viewer } = stage.pane;
      if (!viewer?.ready) return;
      const [least, most] = viewer.range;
      viewer.window = next(least + (at / 1000) * (most - least));
    });
  }
  const opacity = slider("opacity", { min: 5, max: 100, value: 50 }, (at) =>
    setDisplay({ opacity: at / 100, maskVisible: true }),
  );
  const boxes = [
    box("maskVisible", "maskVisible"),
    box("maskOutline", "outline"),
    box("radiological", "radiological"),
    box("smooth", "smooth"),
  ];
  const update = () => {
    const { viewer } = stage.pane;
    opacity.set(100 * state.display.opacity, `${Math.round(100 * state.display.opacity)} %`);
    for (const { update: own } of boxes) own();
    if (!viewer?.ready) return;
    const [least, most] = viewer.range;
    const [black, white] = viewer.window;
    const place = (value: number) => (1000 * (value - least)) / (most - least || 1);
    low.set(place(black), figure(black));
    high.set(place(white), figure(white));
  };
  on("display", update);
  on("cases", () => requestAnimationFrame(update));
  stage.onWindow = update;
  update();
  return make(
    "div",
    { class: "display" },
    low.element,
    high.element,
    opacity.element,
    ...boxes.map(({ element }) => element),
  );
}

function figure(value: number): string {
  return decimal(value, Math.abs(value) < 10 ? 2 : 0);
}

let lastId = 0;

function slider(
  words: Words,
  range: { min: number; max: number; value: number },
  set: (value: number) => void,
) {
  const id = `slider-${++lastId}`;
  const input = make("input", {
    ...{ type: "range", id, ...range },
    on: { input: () => set(Number(input.value)) },
  });
  const output = make("output", { for: id });
  const label = make("label", { for: id, text: words });
  const element = make("div", { class: "field slider" }, label, input, output);
  return {
    element,
    set: (value: number, shown: string) => {
      if (document.activeElement !== input || !input.matches(":active"))
        input.value = String(value);
      output.textContent = shown;
      input.setAttribute("aria-valuetext", shown);
    },
  };
}

function box(words: Words, field: "maskVisible" | "outline" | "radiological" | "smooth") {
  const input = make("input", {
    type: "checkbox",
    on: { change: () => setDisplay({ [field]: input.checked }) },
  });
  const name = make("span");
  say(name, words);
  return {
    element: make("label", { class: "choice" }, input, name),
    update: () => {
      input.checked = state.display[field];
    },
  };
}
