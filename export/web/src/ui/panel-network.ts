/** The network: what it is, what it needs, and a button that runs it. */
import type { Metadata, Step } from "../model/metadata";
import { Problem } from "../problem";
import { decimal, icon, make, message, onLanguage, phrase, refill, verbatim } from "./dom";
import { chooseModel, take } from "./intake";
import { assign, assigned, candidates, obstacle, segmentCase } from "./segmenting";
import { type Case, caseOf, chosenModel, on, state } from "./state";

type Applicable = (pipeline: readonly Step[]) => string[];
let applicable: Applicable | null = null;

export function networkPanel(): HTMLElement {
  const choice = make("div", { class: "network-choice" });
  const card = make("div", { class: "card-of-network" });
  const action = make("div", { class: "action" });
  const outcome = make("div", { "aria-live": "polite", class: "outcome" });
  const update = () => {
    refill(choice, chooser());
    refill(card, about());
    act();
    refill(outcome, ...told());
  };
  let ran = false;
  const act = () => {
    const running = state.run !== null;
    if (running && ran) return progress(action);
    ran = running;
    refill(action, ...(running ? running_(action) : ready()));
  };
  for (const topic of ["cases", "models"] as const) on(topic, update);
  on("run", act);
  onLanguage(update);
  import("../prepare/pipeline").then((module) => {
    applicable = module.applicable;
    update();
  });
  update();
  return make("div", { class: "network" }, choice, card, action, outcome);
}

function chooser(): HTMLElement {
  const input = make("input", {
    type: "file",
    accept: ".onnx",
    multiple: true,
    class: "visually-hidden",
    tabindex: -1,
    "aria-hidden": "true",
    "data-testid": "input-model",
    on: {
      change: () => {
        take([...(input.files ?? [])]);
        input.value = "";
      },
    },
  });
  const open = make(
    "button",
    { "data-key": "open-model", on: { click: () => input.click() } },
    icon("file"),
    make("span", { text: "openModel" }),
  );
  if (!state.models.length)
    return make("div", {}, make("p", { class: "hint", text: "noModel" }), open, input);
  const select = make("select", {
    label: "network",
    "data-key": "model",
    on: { change: () => chooseModel(select.selectedIndex - 1) },
  });
  select.append(make("option", { text: "chooseModel", selected: state.model < 0 }));
  state.models.forEach(({ name }, i) => {
    select.append(verbatim("option", name, { selected: i === state.model }));
  });
  return make("div", { class: "row" }, select, open, input);
}

function about(): HTMLElement | null {
  const metadata = chosenModel()?.metadata;
  if (!metadata) return null;
  const { labels, structures, about: told } = metadata;
  const legend = make("ul", { class: "legend", label: "labels" });
  labels.slice(1).forEach((label, i) => {
    const swatch = make("span", { class: "swatch" });
    swatch.style.background = `rgb(${structures[i]!.color.join(" ")})`;
    legend.append(make("li", {}, swatch, verbatim("span", label)));
  });
  const facts = make("dl", { class: "facts" });
  const fact = (words: Parameters<typeof make>[1], value: string | null) => {
    if (value) facts.append(make("dt", words), verbatim("dd", value));
  };
  fact({ text: "factUse" }, told.intended_use);
  fact({ text: "factData" }, told.training_data);
  fact({ text: "factLicense" }, told.license);
  fact({ text: "factCitation" }, told.citation);
  fact({ text: "factAddress" }, told.url);
  const dice = Object.entries(told.dice ?? {}).map(([name, d]) => `${name} ${decimal(d, 2)}`);
  fact({ text: "factDice" }, dice.join(", ") || null);
  fact({ text: "factModel" }, `${metadata.model} (segjax ${metadata.segjax_version || "?"})`);
  return make(
    "div",
    {},
    legend,
    make("p", { class: "hint", text: "notForDiagnosis" }),
    make("details", { "data-key": "facts" }, make("summary", { text: "factsTitle" }), facts),
    channels(metadata),
  );
}

function channels(metadata: Metadata): HTMLElement | null {
  const one = caseOf();
  if (!one || (metadata.channels.length < 2 && one.images.length < 2)) return null;
  const chosen = assigned(one, metadata);
  const rows = metadata.channels.map((name, channel) => {
    const images = candidates(one);
    const select = make("select", {
      id: `channel-${channel}`,
      "data-key": `channel-${channel}`,
      on: {
        change: () =>
          assign(one, metadata, channel, images[select.selectedIndex - 1]?.image ?? null),
      },
    });
    select.append(make("option", { text: "channelMissing", selected: chosen[channel] === null }));
    for (const { image, caseName } of images) {
      const label = one.images.includes(image) ? image.name : `${caseName}: ${image.name}`;
      select.append(verbatim("option", label, { selected: image === chosen[channel] }));
    }
    const optional = metadata.optional_channels.includes(name);
    const label = make("label", { for: `channel-${channel}` }, verbatim("b", name));
    if (optional) label.append(make("small", { text: "optional" }));
    return make("div", { class: "field" }, label, select);
  });
  return make("fieldset", {}, make("legend", { text: "channels" }), ...rows);
}

/** Return what keeps the network from running here, or null. */
function hindrance(one: Case | null, metadata: Metadata | null): Problem | null {
  if (!metadata) return null;
  try {
    const steps = applicable?.(metadata.pipeline) ?? [];
    if (steps.length) return new Problem("stepsUnsupported", { steps: steps.join(", ") });
  } catch (error) {
    if (error instanceof Problem) return error;
    throw error;
  }
  return one ? obstacle(one, metadata) : null;
}

function ready(): (HTMLElement | null)[] {
  const [one, model] = [caseOf(), chosenModel()];
  const problem = hindrance(one, model?.metadata ?? null);
  const missing = !one ? "needImage" : !model?.metadata ? "needModel" : null;
  const why = problem ? message(problem.key, problem.values) : missing;
  const button = make(
    "button",
    {
      class: "primary wide",
      "data-key": "segment",
      "data-testid": "segment",
      "aria-disabled": why ? "true" : null,
      "aria-describedby": why ? "why-not" : null,
      on: { click: () => (why ? undefined : segmentCase()) },
    },
    icon("play"),
    make("span", { text: "segment" }),
  );
  const reason = why
    ? make("p", { id: "why-not", class: problem ? "problem" : "hint", text: why })
    : null;
  const backend = make("select", {
    "data-key": "backend",
    id: "backend",
    on: {
      change: () => {
        state.backend = (["auto", "wasm", "webgpu"] as const)[backend.selectedIndex]!;
      },
    },
  });
  for (const [value, words] of [
    ["auto", "backendAuto"],
    ["wasm", "backendCpu"],
    ["webgpu", "backendGpu"],
  ] as const)
    backend.append(make("option", { text: words, selected: value === state.backend }));
  const compute = make(
    "div",
    { class: "field inline" },
    make("label", { for: "backend", text: "backend" }),
    backend,
  );
  return [button, reason, model?.metadata ? compute : null];
}

function running_(action: HTMLElement): HTMLElement[] {
  const bar = make("progress", { max: 1, label: "progress", "data-testid": "progress" });
  const line = make("p", { class: "hint", role: "status" });
  const cancel = make("button", {
    text: "cancel",
    class: "wide",
    "data-key": "segment",
    "data-testid": "cancel",
    on: { click: () => state.run?.cancel.abort() },
  });
  queueMicrotask(() => progress(action));
  return [bar, line, cancel];
}

/** Write how far the work is. */
function progress(action: HTMLElement): void {
  const [bar, line] = [action.querySelector("progress"), action.querySelector("p")];
  if (!bar || !line || !state.run) return;
  const now = state.run.progress;
  if (now) bar.value = now.share;
  const phase = phrase(PHASES[now?.phase ?? "open"]);
  const left = now?.left;
  const words = left === null || left === undefined ? phase : `${phase} · ${remaining(left)}`;
  if (line.textContent !== words) line.textContent = words;
}

const PHASES = {
  open: "phaseOpen",
  prepare: "phasePrepare",
  network: "phaseNetwork",
  restore: "phaseRestore",
} as const;

function remaining(seconds: number): string {
  if (seconds < 90) {
    const rounded = seconds < 10 ? Math.ceil(seconds) : Math.ceil(seconds / 5) * 5;
    return phrase(message("secondsLeft", { number: rounded }));
  }
  return phrase(message("minutesLeft", { number: Math.round(seconds / 60) }));
}

function told(): (HTMLElement | null)[] {
  const now = caseOf()?.told;
  if (!now) return [];
  const warnings = now.warnings.map((warning) => make("li", { class: "warning", text: warning }));
  const how = message(now.backend === "webgpu" ? "doneGpu" : "doneCpu", {
    seconds: decimal(now.seconds, 1),
    threads: now.threads,
  });
  return [
    warnings.length
      ? make("ul", { class: "notice-list", "data-testid": "warnings" }, ...warnings)
      : null,
    make("p", { class: "fine", "data-testid": "done", text: how }),
  ];
}
