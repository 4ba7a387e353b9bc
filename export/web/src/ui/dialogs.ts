/** Questions that have to be answered before something goes on. */
import type { Found } from "../dicom/read";
import type { Values } from "../problem";
import type { Key } from "../text";
import { make, message, verbatim, type Words } from "./dom";

/** Show a dialog until it is closed; returns the value of the button that closed it. */
function ask(title: Words, body: (Node | null)[], buttons: [string, Words][]): Promise<string> {
  const before = document.activeElement;
  const heading = make("h2", { id: "dialog-title", text: title });
  const form = make("form", { method: "dialog" }, heading, ...body);
  const row = make("div", { class: "buttons" });
  for (const [value, words] of buttons) row.append(make("button", { value, text: words }));
  row.lastElementChild?.classList.add("primary");
  form.append(row);
  const dialog = make("dialog", { "aria-labelledby": "dialog-title" }, form);
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((answered) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      if (before instanceof HTMLElement) before.focus();
      answered(dialog.returnValue);
    });
  });
}

/** Ask whether something that cannot be undone is wanted. */
export async function confirmed(question: Key, values: Values): Promise<boolean> {
  const answer = await ask(
    "confirmTitle",
    [make("p", { text: message(question, values) })],
    [
      ["no", "cancel"],
      ["yes", "goOn"],
    ],
  );
  return answer === "yes";
}

/** Ask which series of several are wanted. */
export async function chooseSeries(found: readonly Found[]): Promise<Found[]> {
  const boxes = found.map(({ series, slices }, i) => {
    const box = make("input", { type: "checkbox", checked: i === largest(found) });
    const about = message("seriesAbout", { modality: series.modality || "?", slices });
    const label = make("label", { class: "choice" }, box);
    const name = verbatim("b", series.description || series.uid);
    label.append(make("span", {}, name, make("small", { text: about })));
    return { box, label };
  });
  const answer = await ask(
    "chooseSeries",
    [make("div", { class: "choices" }, ...boxes.map(({ label }) => label))],
    [
      ["no", "cancel"],
      ["yes", "open"],
    ],
  );
  return answer === "yes" ? found.filter((_, i) => boxes[i]!.box.checked) : [];
}

function largest(found: readonly Found[]): number {
  const most = Math.max(...found.map(({ slices }) => slices));
  return found.findIndex(({ slices }) => slices === most);
}

const KEYS: readonly (readonly [string, Key])[] = [
  ["← → ↑ ↓", "keyMove"],
  ["Page ↑ ↓", "keySlices"],
  ["Shift", "keyFaster"],
  ["P", "keyPlane"],
  ["1 – 5", "keyLayout"],
  ["+ − 0", "keyZoom"],
  ["A D W S", "keyWindow"],
  ["R", "keyTurn"],
  ["N B E", "keyTools"],
  ["Space", "keyPaint"],
  ["[ ]", "keySize"],
  ["Ctrl Z, Ctrl Y", "keyUndo"],
  ["M O L", "keyShow"],
];
const MICE: readonly (readonly [Key, Key])[] = [
  ["mouseLeft", "mouseLeftDoes"],
  ["mouseWheel", "mouseWheelDoes"],
  ["mouseRight", "mouseRightDoes"],
  ["mouseMiddle", "mouseMiddleDoes"],
  ["mouseTouch", "mouseTouchDoes"],
];

/** Show how the page is used. */
export async function help(): Promise<void> {
  const keys = make("dl", { class: "keys" });
  for (const [key, words] of KEYS)
    keys.append(make("dt", {}, verbatim("kbd", key)), make("dd", { text: words }));
  const mouse = make("dl", { class: "keys" });
  for (const [what, words] of MICE)
    mouse.append(make("dt", { text: what }), make("dd", { text: words }));
  const body = [
    make("p", { text: "helpPrivacy" }),
    make("h3", { text: "helpMouse" }),
    mouse,
    make("h3", { text: "helpKeys" }),
    make("p", { text: "helpKeysWhere" }),
    keys,
    make("h3", { text: "helpPurpose" }),
    make("p", { text: "notForDiagnosis" }),
  ];
  await ask("helpTitle", body, [["ok", "close"]]);
}
