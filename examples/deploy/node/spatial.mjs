// Steps that move voxels: each returns the way there and the way back, or nothing.

function reorient({ affine, shape }, { orientation = "RAS" }) {
  const world = [0, 1, 2].map((c) => nearest(affine, c)); // of each axis of the volume
  const turns = [...orientation].map((letter) => {
    const side = ["LR", "PA", "IS"].findIndex((pair) => pair.includes(letter));
    const from = world.indexOf(side);
    return [from, affine[side][from] > 0 !== "RAS".includes(letter)];
  });
  if (turns.every(([from, flip], to) => from === to && !flip)) return [null, null];
  const inverse = [0, 1, 2].map((axis) => {
    const to = turns.findIndex(([from]) => from === axis);
    return [to, turns[to][1]];
  });
  return [(volume) => turn(volume, turns), (volume) => turn(volume, inverse)];
}

function nearest(affine, column) {
  const size = affine.map((row) => Math.abs(row[column]));
  return size.indexOf(Math.max(...size));
}

function turn({ data, shape, affine }, turns) {
  const strides = [shape[1] * shape[2], shape[2], 1];
  const axes = turns.map(([from, flip]) => ({
    size: shape[from],
    step: flip ? -strides[from] : strides[from],
    start: flip ? (shape[from] - 1) * strides[from] : 0,
  }));
  const begin = axes[0].start + axes[1].start + axes[2].start;
  const turned = new Float32Array(data.length);
  let at = 0;
  for (let i = 0; i < axes[0].size; i++)
    for (let j = 0; j < axes[1].size; j++)
      for (let k = 0; k < axes[2].size; k++)
        turned[at++] = data[begin + i * axes[0].step + j * axes[1].step + k * axes[2].step];
  const columns = affine?.map((row) => turns.map(([from, flip]) => (flip ? -row[from] : row[from])));
  return { data: turned, shape: axes.map(({ size }) => size), affine: columns };
}

function resample({ shape, affine }, { spacing = [1, 1, 1], tolerance = 0 }) {
  const sizes = [0, 1, 2].map((c) => Math.hypot(...affine.map((row) => row[c])));
  const steps = sizes.map((size, axis) => spacing[axis] / size);
  const far = Math.max(...steps.map((step) => Math.abs(1 / step - 1)));
  if (tolerance && far <= tolerance) return [null, null];
  const counts = shape.map((n, a) => (n === 1 ? 1 : Math.max(1, Math.floor(n / steps[a] + 1e-3))));
  const scaled = affine.map((row) => row.slice(0, 3).map((v, axis) => v * steps[axis]));
  const there = (volume) => ({ ...along(volume, counts, steps), affine: scaled });
  return [there, (volume) => along(volume, shape, steps.map((step) => 1 / step))];
}

// Interpolate linearly at places so many voxels apart, about the centre; beyond it is 0.
function along(volume, counts, steps) {
  let { data, shape } = volume;
  for (let axis = 0; axis < 3; axis++) {
    const after = shape.with(axis, counts[axis]);
    const size = shape[axis];
    const inner = shape.slice(axis + 1).reduce((a, b) => a * b, 1);
    const outer = shape.slice(0, axis).reduce((a, b) => a * b, 1);
    const result = new Float32Array(outer * counts[axis] * inner);
    for (let i = 0; i < counts[axis]; i++) {
      const exact = (size - 1) / 2 + (i - (counts[axis] - 1) / 2) * steps[axis];
      const place = Math.round(exact * 1e9) / 1e9;
      if (place < -0.5 || place >= size - 0.5) continue;
      const held = Math.min(Math.max(place, 0), size - 1);
      const lower = Math.floor(held);
      const weight = Math.fround(held - lower);
      const more = lower + 1 < size ? inner : 0;
      for (let o = 0; o < outer; o++)
        for (let k = 0, at = (o * size + lower) * inner; k < inner; k++, at++) {
          const rise = Math.fround(Math.fround(data[at + more] - data[at]) * weight);
          result[(o * counts[axis] + i) * inner + k] = rise + data[at];
        }
    }
    [data, shape] = [result, after];
  }
  return { data, shape };
}

export const SPATIAL = { reorient, resample };
