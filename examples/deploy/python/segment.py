"""Segment with a network of segjax, without segjax: onnxruntime, NumPy and nibabel.

Run it: python segment.py MODEL.onnx MASK.nii.gz IMAGE.nii.gz [ANOTHER_CHANNEL.nii.gz ...]
"""

import json
import sys

import nibabel as nib
import onnxruntime
from mask import choose
from predictor import probabilities
from reader import read

model, out, *paths = sys.argv[1:]
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
meta = json.loads(session.get_modelmeta().custom_metadata_map["segjax"])
assert not meta["inside"], "export the network without preprocessing"
image, restore = read(paths, meta["pipeline"])
affine = nib.load(paths[0]).affine
mask = choose(restore(probabilities(session, meta, image)), meta["postprocessing"], affine)
nib.save(nib.Nifti1Image(mask, affine), out)
