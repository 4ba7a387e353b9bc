/** The service worker: the page without a connection, and isolated on any static host. */
import { hasBegun } from "./intake";
import { state } from "./state";

/**
 * Install the service worker. The first time, the page is loaded again, so that it comes isolated,
 * which threads need; not once something is opened.
 */
export function registerWorker(): void {
  const { serviceWorker } = navigator;
  if (!import.meta.env.PROD || !serviceWorker || !isSecureContext) return;
  const reload = () => {
    const once = "segjax-isolating";
    if (crossOriginIsolated || !serviceWorker.controller || sessionStorage.getItem(once)) return;
    if (hasBegun() || state.models.some(({ metadata }) => metadata)) return;
    sessionStorage.setItem(once, "1");
    location.reload();
  };
  serviceWorker.addEventListener("controllerchange", reload);
  serviceWorker
    .register(new URL("sw.js", document.baseURI), { updateViaCache: "none" })
    .then(reload)
    .catch((error) => console.warn("no service worker:", error)); // the page works without
}
