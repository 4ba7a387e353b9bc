"""Images on which transforms are compared with other libraries."""

import numpy as np
import pytest

from segjax.data.io.nifti import read_nifti
from segjax.data.io.png import read_png

_RANDOM = {"volume": (20, 17, 24, 2), "odd volume": (7, 1, 9, 1), "slice": (33, 26, 1)}


@pytest.fixture(params=["head", "tumour", *_RANDOM])
def any_image(request):
    """Return images, channels last: of patients, and of random values of both signs."""
    if request.param in _RANDOM:
        values = np.random.default_rng(0).standard_normal(_RANDOM[request.param])
        return values.astype(np.float32)
    data_dir = request.getfixturevalue("data_dir")
    if request.param == "head":
        flair = read_nifti(data_dir / "ms_lesions/patient07/flair.nii.gz").channels_last
        return np.ascontiguousarray(flair[40:130, 60:171, 50:114], np.float32)
    path = sorted((data_dir / "meningioma2d/images").iterdir())[0]
    return np.ascontiguousarray(read_png(path).channels_last, np.float32) / 127.5 - 1
