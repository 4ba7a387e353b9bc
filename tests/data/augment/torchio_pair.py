"""Hand images to TorchIO, and take them back."""

import numpy as np

from tests.peers import torch, torchio


def to_subject(image, label, spacing):
    """Make a subject of an image (channels last) and its label map, 2D or 3D, axes as RAS."""
    if label.ndim == 2:
        image, label = image[:, :, None], label[:, :, None]
    affine = np.diag([*spacing, *[1.0] * (4 - len(spacing))])
    affine[:3, 3] = 3, -8, 11
    return torchio.Subject(
        image=torchio.ScalarImage(
            tensor=torch.tensor(np.ascontiguousarray(np.moveaxis(image, -1, 0))), affine=affine
        ),
        label=torchio.LabelMap(tensor=torch.tensor(label[None]), affine=affine),
    )


def from_subject(subject, rank):
    """Return image and label map of a subject as NumPy arrays of the given rank."""
    image, label = np.moveaxis(subject.image.numpy(), 0, -1), subject.label.numpy()[0]
    return (image[:, :, 0], label[:, :, 0]) if rank == 2 else (image, label)
