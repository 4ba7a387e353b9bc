// Run a network over an image, in windows or in one piece.
import ort from "onnxruntime-node";

export async function probabilities(session, meta, image) {
  const sizes = image[0].shape;
  let patch = [...meta.patch_size, 1].slice(0, 3); // a 2D network sees slices
  let before = sizes.map((n, axis) => Math.floor(Math.max(0, patch[axis] - n) / 2));
  if (meta.halo) { // a local network: all in one piece, padded behind
    const multiple = (axis) => (axis < meta.spatial_dims ? meta.size_multiple : 1);
    patch = sizes.map((n, a) => Math.max(patch[a], Math.ceil(n / multiple(a)) * multiple(a)));
    before = [0, 0, 0];
  }
  const starts = sizes.map((n, axis) => corners(n, patch[axis], before[axis], meta.overlap));
  const count = meta.activation === "sigmoid" ? 1 : meta.labels.length;
  const voxels = image[0].data.length;
  const sums = Array.from({ length: count }, () => new Float64Array(voxels));
  const total = new Float64Array(voxels);
  const weights = window(patch, meta.window);
  for (const x of starts[0]) for (const y of starts[1]) for (const z of starts[2]) {
    const places = inside([x, y, z], patch, sizes);
    const seen = new Float32Array(image.length * weights.length); // 0 beyond the volume
    image.forEach(({ data }, channel) => {
      for (const [at, from] of places) seen[channel * weights.length + at] = data[from];
    });
    const dims = [1, image.length, ...patch.slice(0, meta.spatial_dims)];
    const { probabilities: p } = await session.run({ image: new ort.Tensor("float32", seen, dims) });
    for (const [at, to] of places) {
      total[to] += weights[at];
      for (let label = 0; label < count; label++)
        sums[label][to] += Math.fround(weights[at] * p.data[label * weights.length + at]);
    }
  }
  const average = (sum) => Float32Array.from(sum, (value, i) => value / total[i]);
  return sums.map((sum) => ({ data: average(sum), shape: sizes }));
}

function corners(size, patch, before, overlap) { // along one axis; the last window ends with the volume
  const stride = Math.max(1, Math.floor(patch * (1 - overlap)));
  const count = Math.max(0, Math.ceil((size - patch) / stride)) + 1;
  const last = Math.max(0, size - patch);
  return Array.from({ length: count }, (_, i) => Math.min(i * stride, last) - before);
}

function inside(first, patch, sizes) { // pairs: place in the patch, place in the volume
  const pairs = [];
  for (let x = 0, at = 0; x < patch[0]; x++)
    for (let y = 0; y < patch[1]; y++)
      for (let z = 0; z < patch[2]; z++, at++) {
        const [i, j, k] = [x + first[0], y + first[1], z + first[2]];
        if (i >= 0 && j >= 0 && k >= 0 && i < sizes[0] && j < sizes[1] && k < sizes[2])
          pairs.push([at, (i * sizes[1] + j) * sizes[2] + k]);
      }
  return pairs;
}

function window(patch, { function: kind, sigma = 0.125, floor = 0.001 }) {
  const lines = patch.map((n) =>
    Array.from({ length: n }, (_, i) =>
      kind === "gaussian" ? Math.exp(-0.5 * ((i - (n - 1) / 2) / (n * sigma)) ** 2) : 1));
  const all = lines[0].flatMap((a) => lines[1].flatMap((b) => lines[2].map((c) => a * b * c)));
  return Float32Array.from(all, (weight) => Math.max(weight, floor));
}
