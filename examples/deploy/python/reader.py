"""Show images to a network as segjax does, and bring its answer back: NumPy and nibabel."""

import nibabel as nib
import numpy as np
from intensity import INTENSITY
from spatial import SPATIAL


def read(paths, pipeline):
    """Return ``(x, y, z, channel)``, float32, and the way back for ``(x, y, z, label)``."""
    images, undo = [nib.load(path) for path in paths], []
    affine = images[0].affine
    data = np.stack([image.get_fdata() for image in images], axis=-1).astype(np.float32)
    for step in pipeline:
        fields = {key: value for key, value in step.items() if key != "step"}
        if step["step"] in SPATIAL:
            data, affine, *back = SPATIAL[step["step"]](data, affine, **fields)
            undo = back + undo
        elif step["step"] not in INTENSITY:
            raise SystemExit(
                f"step {step['step']!r} is not here: docs/onnx-format.md says what it does"
            )
        else:  # channel by channel
            done = [INTENSITY[step["step"]](one, **fields) for one in np.moveaxis(data, -1, 0)]
            data = np.stack(done, axis=-1).astype(np.float32)

    def restore(answer):
        for back in undo:
            answer = back(answer)
        if undo and answer.shape[-1] > 1:  # what lies outside the field of view is background
            answer[..., 0] = np.clip(1 - answer[..., 1:].sum(axis=-1), 0, 1)
        return answer

    return data, restore
