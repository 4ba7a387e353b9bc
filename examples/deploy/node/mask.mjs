// Choose the label of each voxel by a network's rules.

export function choose(answer, rules, { shape, affine }) {
  const p = answer.map(({ data }) => data);
  if (p.length === 1) p.unshift(new Float32Array(p[0].length).fill(0.5));
  const asked = rules.map((rule, i) => [i + 1, rule.threshold]).filter(([, t]) => t !== null);
  const free = p.map((_, label) => label).filter((label) => !asked.some(([l]) => l === label));
  const mask = Uint8Array.from(p[0], (_, i) => {
    let chosen = free[0];
    for (const label of free) if (p[label][i] > p[chosen][i]) chosen = label;
    let best = 0;
    for (const [label, threshold] of asked)
      if (p[label][i] >= Math.fround(threshold) && p[label][i] > best)
        [chosen, best] = [label, p[label][i]];
    return chosen;
  });
  rules.forEach((rule, i) => clean(mask, i + 1, rule, shape, volume(affine)));
  return mask;
}

function volume([[a, b, c], [d, e, f], [g, h, i]]) {
  return Math.abs(a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g));
}

function clean(mask, label, rule, shape, voxel) {
  if (rule.fill_holes)
    for (const hole of components((i) => mask[i] !== label, shape, 1))
      if (!hole.border) for (const i of hole.voxels) if (mask[i] === 0) mask[i] = label;
  const found = components((i) => mask[i] === label, shape, 3);
  const largest = Math.max(...found.map(({ voxels }) => voxels.length));
  const first = found.findIndex(({ voxels }) => voxels.length === largest);
  found.forEach(({ voxels }, number) => {
    const small = voxels.length * voxel < rule.minimum_volume * (1 - 1e-6);
    if (small || (rule.largest_component && number !== first)) for (const i of voxels) mask[i] = 0;
  });
}

// Groups of voxels that touch along up to so many axes at once: faces 1, corners 3.
function components(belongs, shape, reach) {
  const [, ny, nz] = shape;
  const seen = new Uint8Array(shape[0] * ny * nz);
  const steps = [];
  for (const x of [-1, 0, 1]) for (const y of [-1, 0, 1]) for (const z of [-1, 0, 1]) {
    const axes = Math.abs(x) + Math.abs(y) + Math.abs(z);
    if (axes > 0 && axes <= reach) steps.push([x, y, z]);
  }
  const found = [];
  for (let begin = 0; begin < seen.length; begin++) {
    if (seen[begin] || !belongs(begin)) continue;
    const voxels = [begin];
    let border = false;
    seen[begin] = 1;
    for (const i of voxels) { // grows as it is gone through
      const at = [Math.floor(i / (ny * nz)), Math.floor(i / nz) % ny, i % nz];
      for (const step of steps) {
        const [x, y, z] = at.map((n, axis) => n + step[axis]);
        const out = [x, y, z].some((n, axis) => n < 0 || n >= shape[axis]);
        border ||= out;
        const next = (x * ny + y) * nz + z;
        if (out || seen[next] || !belongs(next)) continue;
        seen[next] = 1;
        voxels.push(next);
      }
    }
    found.push({ voxels, border });
  }
  return found;
}
