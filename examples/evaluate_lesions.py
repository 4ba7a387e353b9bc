"""Count the lesions that a mask found, missed and invented, by the rules of three challenges.

Run it: python examples/evaluate_lesions.py
"""

import numpy as np

import segjax
from segjax.data.phantom.dataset import phantom
from segjax.evaluate import match_lesions

_, truth = phantom(5, shape=(64, 64, 64))
shifted = np.roll(truth.data, 4, axis=0)  # a network that is 4 mm off …
shifted[:, :, :36] = 0  # … misses the lower half of the head …
shifted[10:13, 30:33, 50:53] = 1  # … and invents a lesion
prediction = truth.with_data(shifted)

for rule in ("any", "isbi-2015", "msseg-2016"):
    (row,) = segjax.score(truth=truth, prediction=prediction, rule=rule)
    print(
        f"{rule:10}  Dice {row['dice']:.2f}  found {row['found_lesions']:.0f} of "
        f"{row['true_lesions']:.0f}, false positives {row['false_lesions']:.0f}, "
        f"F1 {row['lesion_f1']:.2f}"
    )

match = match_lesions(truth=truth.data, prediction=shifted, spacing=truth.affine)
for lesion in match.truth:
    said = "found" if lesion.matched else "missed"
    centre = ", ".join(f"{index:.0f}" for index in lesion.centre)
    print(f"lesion of {lesion.size:6.1f} mm³ at voxel ({centre}): {said}")
