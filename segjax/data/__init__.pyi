from . import augment as augment
from .augment import (
    IntensityTransform as IntensityTransform,
    SpatialTransform as SpatialTransform,
    Transform as Transform,
)
from .cache.cache import (
    Cache as Cache,
    CachedCase as CachedCase,
    open_cache as open_cache,
    preprocess as preprocess,
)
from .cases import (
    Case as Case,
    Dataset as Dataset,
    StoredCase as StoredCase,
    find_cases as find_cases,
    find_test_cases as find_test_cases,
)
from .grouping import Grouping as Grouping
from .images import find_images as find_images
from .io.dicom.series import Series as Series, find_series as find_series, read_dicom as read_dicom
from .io.formats import (
    read_grid as read_grid,
    read_image as read_image,
    read_label as read_label,
    read_volume as read_volume,
    write_volume as write_volume,
)
from .io.nifti import read_nifti as read_nifti, write_nifti as write_nifti
from .labels import (
    IGNORED as IGNORED,
    LabelCoding as LabelCoding,
    coding_of_labels as coding_of_labels,
)
from .layouts import find_data as find_data
from .loaded import LoadedCase as LoadedCase, TrainingCase as TrainingCase
from .loader import Batch as Batch, Loader as Loader, Sampling as Sampling, prefetch as prefetch
from .patches import (
    extract_patch as extract_patch,
    sliding_window as sliding_window,
    to_mask as to_mask,
)
from .phantom.dataset import write_dataset as write_dataset
from .prepare.bias_field import correct_bias_field as correct_bias_field
from .prepare.brain import extract_brain as extract_brain
from .prepare.histogram import (
    read_landmarks as read_landmarks,
    standardize as standardize,
    train_landmarks as train_landmarks,
    write_landmarks as write_landmarks,
)
from .prepare.intensity import (
    clip_percentiles as clip_percentiles,
    min_max as min_max,
    rescale as rescale,
    z_score as z_score,
)
from .prepare.pipeline import Pipeline as Pipeline, read_pipeline as read_pipeline
from .prepare.spatial import (
    crop_or_pad as crop_or_pad,
    crop_to_foreground as crop_to_foreground,
    resample as resample,
)
from .prepare.steps import (
    BiasFieldCorrection as BiasFieldCorrection,
    BrainExtraction as BrainExtraction,
    Clip as Clip,
    ClipPercentiles as ClipPercentiles,
    CropOrPad as CropOrPad,
    CropToForeground as CropToForeground,
    HistogramStandardization as HistogramStandardization,
    MinMax as MinMax,
    Reorient as Reorient,
    Resample as Resample,
    Rescale as Rescale,
    Resize as Resize,
    RobustZScore as RobustZScore,
    Step as Step,
    TissuePeak as TissuePeak,
    ZScore as ZScore,
)
from .splits import (
    Folding as Folding,
    Split as Split,
    read_split as read_split,
    split_cases as split_cases,
    write_split as write_split,
)
from .subjects import find_subjects as find_subjects
from .synthesis import (
    LesionShapes as LesionShapes,
    PutLesions as PutLesions,
    put_lesions as put_lesions,
    read_shapes as read_shapes,
)
