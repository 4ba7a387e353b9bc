/** Measures masks beside the page. */
import { measure } from "../measure/lesions";
import type { Affine, Shape } from "../volume";

export interface Question {
  readonly mask: Uint8Array;
  readonly shape: Shape;
  readonly affine: Affine;
  readonly labels: readonly string[];
}

self.onmessage = ({ data }: MessageEvent<Question>) => {
  self.postMessage(measure(data.mask, data.shape, data.affine, [...data.labels]));
};
