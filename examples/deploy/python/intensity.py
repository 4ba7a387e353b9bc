"""Steps that change the intensities of one channel ``(x, y, z)``."""

import numpy as np


def z_score(x, where="all"):
    mean = x.mean(dtype=np.float64)
    chosen = {"all": x, "nonzero": x[x != 0], "above-mean": x[x > mean]}[where]
    chosen = chosen if chosen.size else x
    mean, std = chosen.mean(dtype=np.float64), chosen.std(dtype=np.float64)
    constant = std <= 1.2e-7 * abs(mean)
    return (x - np.float32(mean)) / np.float32(1 if constant else std)


def rescale(x, low=-1, high=1):
    least, most = float(x.min()), float(x.max())
    if most - least <= 1.2e-7 * max(abs(least), abs(most)):
        return np.zeros_like(x)
    return np.clip(
        (x.astype(np.float64) - least) * ((high - low) / (most - least)) + low, low, high
    )


def clip_percentiles(x, low=0.5, high=99.5):
    return np.clip(x, *np.percentile(x, (low, high)))


INTENSITY = {
    "z-score": z_score,
    "rescale": rescale,
    "min-max": lambda x: rescale(x, 0, 1),
    "clip-percentiles": clip_percentiles,
}
