// Show images to a network as segjax does, and bring its answers back. Every volume is one
// channel or one label: {data: Float32Array, shape, affine}.
import { INTENSITY } from "./intensity.mjs";
import { SPATIAL } from "./spatial.mjs";

export function read(images, pipeline) {
  let channels = images;
  const undo = [];
  for (const { step, ...fields } of pipeline) {
    if (step in SPATIAL) {
      const [there, back] = SPATIAL[step](channels[0], fields);
      if (!there) continue;
      channels = channels.map(there);
      undo.unshift(back);
    } else if (!(step in INTENSITY)) {
      console.error(`step '${step}' is not here: docs/onnx-format.md says what it does`);
      process.exit(1);
    } else {
      channels = channels.map((c) => ({ ...c, data: INTENSITY[step](c.data, fields) }));
    }
  }
  const restore = (answer) => {
    for (const back of undo) answer = answer.map(back);
    if (undo.length && answer.length > 1) {
      answer[0].data.forEach((_, i, background) => {
        let rest = 0; // what lies outside the field of view is background
        for (const { data } of answer.slice(1)) rest = Math.fround(rest + data[i]);
        background[i] = Math.min(1, Math.max(0, 1 - rest));
      });
    }
    return answer;
  };
  return [channels, restore];
}
