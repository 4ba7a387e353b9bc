"""Lesions that are put into scans: their shapes, where they may lie, and how they look."""

from segjax.data.synthesis.put import PutLesion, put_lesions
from segjax.data.synthesis.shapes import LesionShapes, draw_shape, ellipsoids, read_shapes
from segjax.data.synthesis.transform import PutLesions

__all__ = [
    "LesionShapes",
    "PutLesion",
    "PutLesions",
    "draw_shape",
    "ellipsoids",
    "put_lesions",
    "read_shapes",
]
