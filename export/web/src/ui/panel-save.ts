/** Buttons that save. */
import { icon, make, refill, type Words } from "./dom";
import { tell } from "./notices";
import {
  dicomOf,
  saveMask,
  savePicture,
  saveSegmentation,
  saveTable,
  saveTrainingSet,
} from "./saving";
import type { Stage } from "./stage";
import { caseOf, on, state } from "./state";

export function savePanel(stage: Stage): HTMLElement {
  const body = make("div", { class: "buttons grid" });
  const update = () => {
    const one = caseOf();
    const none = !one?.mask;
    refill(
      body,
      button("saveMask", none, () => saveMask(caseOf()!), true),
      one && dicomOf(one) ? button("saveDicom", none, () => saveSegmentation(caseOf()!)) : null,
      button("saveVolumes", none, () => saveTable("volumes")),
      button("saveLesions", none, () => saveTable("lesions")),
      button("savePicture", !one, () => {
        const shown = stage.panes.filter((pane) => pane.case && pane.viewer?.ready);
        return savePicture(
          shown.map((pane) => pane.viewer!.picture()),
          caseOf()!.name,
        );
      }),
      button("saveTraining", !state.cases.some(({ mask }) => mask), saveTrainingSet),
    );
  };
  on("cases", update);
  on("mask", update);
  update();
  return body;
}

function button(
  words: Words & string,
  disabled: boolean,
  save: () => Promise<void>,
  primary = false,
): HTMLElement {
  return make(
    "button",
    {
      disabled,
      class: primary ? "primary" : null,
      "data-key": words,
      "data-testid": words,
      on: { click: () => save().catch(tell) },
    },
    icon("save"),
    make("span", { text: words }),
  );
}
