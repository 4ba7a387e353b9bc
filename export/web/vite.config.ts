import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { defineConfig, type Plugin } from "vite";

/** Fetched when they are asked for: onnxruntime for WebGPU, and codecs of NiiVue's that nothing asks for. */
const LATE = /ort-wasm-simd-threaded\.(asyncify|jspi|jsep)|ort\.webgpu|\/(blosc|zstd|lz4)-/;

/** Tell the service worker which files there are, and which version they are of. */
function serviceWorkerFiles(): Plugin {
  let publicDir = "";
  return {
    name: "service-worker-files",
    apply: "build",
    configResolved: (config) => {
      publicDir = config.publicDir;
    },
    generateBundle: {
      order: "post",
      handler(_, bundle) {
        const worker = bundle["sw.js"];
        if (worker?.type !== "chunk") return;
        const copied = readdirSync(publicDir).sort();
        const built = Object.keys(bundle).filter((file) => file !== "sw.js" && !file.endsWith(".map"));
        const hash = createHash("sha256");
        for (const file of built.sort()) {
          const one = bundle[file]!;
          hash.update(file).update(one.type === "chunk" ? one.code : one.source);
        }
        for (const file of copied) hash.update(file).update(readFileSync(join(publicDir, file)));
        const all = [...built, ...copied.filter((file) => file !== "models.json")];
        const values = {
          VERSION: hash.update(worker.code).digest("hex").slice(0, 12),
          FILES: all.filter((file) => !LATE.test(file)),
          LATE: all.filter((file) => LATE.test(file)),
        };
        const lines = Object.entries(values).map(
          ([name, value]) => `const ${name}=${JSON.stringify(value)};`,
        );
        worker.code = `${lines.join("\n")}\n${worker.code}`;
      },
    },
  };
}

export default defineConfig({
  ssr: { noExternal: true }, // the tests run modules in Node.js, from anywhere
  base: "./", // any folder of any static host
  build: {
    target: "es2023",
    chunkSizeWarningLimit: 4000,
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rolldownOptions: {
      input: { index: "index.html", sw: "src/sw.ts" },
      output: {
        entryFileNames: ({ name }) => (name === "sw" ? "sw.js" : "assets/[name]-[hash].js"),
      },
    },
  },
  plugins: [serviceWorkerFiles()],
  worker: { format: "es" },
  optimizeDeps: { exclude: ["@niivue/dcm2niix", "onnxruntime-web"] },
  resolve: {
    conditions: ["onnxruntime-web-use-extern-wasm", "module", "browser", "import", "default"],
  },
});
