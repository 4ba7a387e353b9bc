/** Keeps the page for use without a connection, and isolates it, which threads need. */
export {};

declare const self: ServiceWorkerGlobalScope;
/** Filled in by the build: a hash of all files, those to fetch at once, and those when asked for. */
declare const VERSION: string;
declare const FILES: readonly string[];
declare const LATE: readonly string[];

const SCOPE = self.registration.scope;
const OWN = `segjax ${SCOPE} `; // caches belong to the host, whose other folders may hold this page too
const CACHE = OWN + VERSION;
/** As the page's own, which a worker does not take over. */
const POLICY =
  "default-src 'self' blob: data:; script-src 'self' 'wasm-unsafe-eval'; object-src 'none'; " +
  "base-uri 'none'; form-action 'none'";
const known = new Set([...FILES, ...LATE].map((file) => new URL(file, SCOPE).href));

self.addEventListener("install", (event) => {
  event.waitUntil(install());
});

/** Keep all files; a version that is in use goes on until its last tab is closed, for it needs its own. */
async function install(): Promise<void> {
  const cache = await caches.open(CACHE);
  await cache.addAll(FILES.map((file) => new Request(new URL(file, SCOPE), { cache: "no-cache" })));
}

self.addEventListener("activate", (event) => {
  event.waitUntil(activate());
});

async function activate(): Promise<void> {
  for (const name of await caches.keys())
    if (name.startsWith(OWN) && name !== CACHE) await caches.delete(name);
  await self.clients.claim();
}

self.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method !== "GET" || !request.url.startsWith(SCOPE)) return;
  event.respondWith(answer(request));
});

async function answer(request: Request): Promise<Response> {
  const url = new URL(request.url);
  url.search = url.hash = "";
  if (url.href === SCOPE) url.pathname += "index.html";
  if (!known.has(url.href)) return isolated(await fetch(request));
  const cache = await caches.open(CACHE);
  const kept = await cache.match(url.href);
  if (kept) return isolated(kept);
  const fetched = await fetch(request);
  if (fetched.ok) await cache.put(url.href, fetched.clone()).catch(() => {}); // a full disk
  return isolated(fetched);
}

function isolated(response: Response): Response {
  if (response.type === "opaque" || response.status === 0) return response;
  const headers = new Headers(response.headers);
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  headers.set("Cross-Origin-Resource-Policy", "same-origin");
  headers.append("Content-Security-Policy", POLICY);
  const { status, statusText } = response;
  return new Response(response.body, { status, statusText, headers });
}
