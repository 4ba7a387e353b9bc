// Segment with a network of segjax, without segjax: onnxruntime-node alone (npm install).
// The network's metadata lie beside it: segjax export run -o model.onnx --json
//
// Run it: node segment.mjs MODEL.onnx MASK.nii.gz IMAGE.nii.gz [ANOTHER_CHANNEL.nii.gz ...]
import { readFileSync } from "node:fs";
import ort from "onnxruntime-node";
import { choose } from "./mask.mjs";
import { readNifti, writeMask } from "./nifti.mjs";
import { probabilities } from "./predictor.mjs";
import { read } from "./reader.mjs";

const [model, out, ...paths] = process.argv.slice(2);
const meta = JSON.parse(readFileSync(model.replace(/\.onnx$/, ".json"), "utf8"));
if (meta.inside.length) throw new Error("export the network without preprocessing");
const session = await ort.InferenceSession.create(model);
const images = paths.map(readNifti);
const [channels, restore] = read(images, meta.pipeline);
const answer = restore(await probabilities(session, meta, channels));
writeMask(out, choose(answer, meta.postprocessing, images[0]), images[0]);
