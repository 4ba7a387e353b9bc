// Steps that change the intensities of one channel.

const mean = (x) => x.reduce((sum, v) => sum + v, 0) / x.length;

function zScore(x, { where = "all" }) {
  const over = mean(x);
  const wanted = { all: () => true, nonzero: (v) => v !== 0, "above-mean": (v) => v > over }[where];
  const some = x.filter(wanted);
  const chosen = some.length ? some : x;
  const middle = mean(chosen);
  const std = Math.sqrt(chosen.reduce((sum, v) => sum + (v - middle) ** 2, 0) / chosen.length);
  const scale = Math.fround(std <= 1.2e-7 * Math.abs(middle) ? 1 : std);
  return x.map((v) => Math.fround(v - Math.fround(middle)) / scale);
}

function rescale(x, { low = -1, high = 1 }) {
  const [least, most] = x.reduce(([a, b], v) => [Math.min(a, v), Math.max(b, v)], [x[0], x[0]]);
  if (most - least <= 1.2e-7 * Math.max(Math.abs(least), Math.abs(most))) return x.map(() => 0);
  const factor = (high - low) / (most - least);
  return x.map((v) => Math.min(high, Math.max(low, (v - least) * factor + low)));
}

function clipPercentiles(x, { low = 0.5, high = 99.5 }) {
  const sorted = x.toSorted();
  const [least, most] = [low, high].map((percent) => {
    const place = (percent / 100) * (x.length - 1);
    const before = Math.floor(place);
    const rise = Math.fround(sorted[Math.min(before + 1, x.length - 1)] - sorted[before]);
    return sorted[before] + rise * (place - before);
  });
  return x.map((v) => Math.min(most, Math.max(least, v)));
}

export const INTENSITY = {
  "z-score": zScore,
  rescale,
  "min-max": (x) => rescale(x, { low: 0, high: 1 }),
  "clip-percentiles": clipPercentiles,
};
