/** Errors and warnings: they stay until people put them away, and are read aloud when they come. */
import { Problem } from "../problem";
import { icon, make, message, type Words } from "./dom";
import { dismiss, notify, on, state } from "./state";

/** Tell people what went wrong: the message of a Problem, or that the page itself failed. */
export function tell(error: unknown): void {
  if (error instanceof DOMException && error.name === "AbortError") return;
  if (error instanceof Problem) {
    notify("error", message(error.key, error.values));
    return;
  }
  console.error(error);
  const reason = error instanceof Error ? error.message : String(error);
  notify("error", message("unexpected", { reason: reason.slice(0, 200) }));
}

/** Return the region of messages. */
export function notices(): HTMLElement {
  const list = make("ul", { class: "notice-list" });
  const all = make("button", {
    class: "quiet",
    text: "dismissAll",
    on: { click: () => dismiss(state.notices.map(({ id }) => id)) },
  });
  const region = make(
    "section",
    { class: "notices", label: "messages", "data-testid": "notices" },
    make("div", { "aria-live": "assertive", "aria-relevant": "additions" }, list),
    all,
  );
  const known = new Map<number, HTMLElement>();
  on("notices", () => {
    const focused = region.contains(document.activeElement);
    for (const [id, node] of known) {
      if (state.notices.some((notice) => notice.id === id)) continue;
      node.remove();
      known.delete(id);
    }
    for (const { id, severity, message: words } of state.notices) {
      if (known.has(id)) continue;
      const node = make(
        "li",
        { class: severity },
        make("span", { text: words }),
        make(
          "button",
          { class: "icon-only quiet", label: "dismiss", on: { click: () => dismiss([id]) } },
          icon("close"),
        ),
      );
      known.set(id, node);
      list.append(node);
    }
    region.hidden = known.size === 0;
    all.hidden = known.size < 2;
    if (focused && !region.contains(document.activeElement)) {
      const next = region.hidden ? document.querySelector<HTMLElement>("canvas, main button") : all;
      (next?.hidden ? region.querySelector("button") : next)?.focus();
    }
  });
  region.hidden = true;
  return region;
}

const status = make("p", { class: "status", role: "status", "data-testid": "status" });

/** Return the line that says what the page is doing. */
export function statusLine(): HTMLElement {
  return status;
}

/** Say what the page is doing, or nothing. */
export function busy(words: Words | null): void {
  status.replaceChildren(...(words ? [make("span", { text: words })] : []));
}
