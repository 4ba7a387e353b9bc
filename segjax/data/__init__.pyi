from . import augment as augment
from .augment import (
    Flip as Flip,
)
from .augment import (
    Gamma as Gamma,
)
from .augment import (
    Noise as Noise,
)
from .augment import (
    ScaleIntensity as ScaleIntensity,
)
from .augment import (
    Transform as Transform,
)
from .cache.cache import (
    Cache as Cache,
)
from .cache.cache import (
    CachedCase as CachedCase,
)
from .cache.cache import (
    Histogram as Histogram,
)
from .cache.cache import (
    Outcome as Outcome,
)
from .cache.cache import (
    is_cache as is_cache,
)
from .cache.cache import (
    open_cache as open_cache,
)
from .cache.cache import (
    preprocess as preprocess,
)
from .cases import (
    LAYOUTS as LAYOUTS,
)
from .cases import (
    Case as Case,
)
from .cases import (
    Dataset as Dataset,
)
from .cases import (
    LoadedCase as LoadedCase,
)
from .cases import (
    Split as Split,
)
from .cases import (
    are_colours as are_colours,
)
from .cases import (
    files_in as files_in,
)
from .cases import (
    find_cases as find_cases,
)
from .cases import (
    find_images as find_images,
)
from .cases import (
    find_subjects as find_subjects,
)
from .cases import (
    find_test_cases as find_test_cases,
)
from .cases import (
    is_dataset as is_dataset,
)
from .cases import (
    load_case as load_case,
)
from .cases import (
    read_case_label as read_case_label,
)
from .cases import (
    read_description as read_description,
)
from .cases import (
    read_fold_splits as read_fold_splits,
)
from .cases import (
    read_split as read_split,
)
from .cases import (
    split_cases as split_cases,
)
from .cases import (
    write_split as write_split,
)
from .folds import (
    Folding as Folding,
)
from .folds import (
    Grouping as Grouping,
)
from .folds import (
    fold_splits as fold_splits,
)
from .folds import (
    group_by_pattern as group_by_pattern,
)
from .folds import (
    group_neighbours as group_neighbours,
)
from .io.dicom.series import (
    Series as Series,
)
from .io.dicom.series import (
    find_series as find_series,
)
from .io.dicom.series import (
    read_dicom as read_dicom,
)
from .io.formats import (
    COLOURS as COLOURS,
)
from .io.formats import (
    IMAGE_SUFFIXES as IMAGE_SUFFIXES,
)
from .io.formats import (
    MASK_SUFFIXES as MASK_SUFFIXES,
)
from .io.formats import (
    check_same_grid as check_same_grid,
)
from .io.formats import (
    may_name_segments as may_name_segments,
)
from .io.formats import (
    normal_name as normal_name,
)
from .io.formats import (
    read_grid as read_grid,
)
from .io.formats import (
    read_image as read_image,
)
from .io.formats import (
    read_label as read_label,
)
from .io.formats import (
    read_volume as read_volume,
)
from .io.formats import (
    segment_names as segment_names,
)
from .io.formats import (
    stem as stem,
)
from .io.formats import (
    suffix as suffix,
)
from .io.formats import (
    write_volume as write_volume,
)
from .io.nifti import (
    nifti_grid as nifti_grid,
)
from .io.nifti import (
    read_nifti as read_nifti,
)
from .io.nifti import (
    write_nifti as write_nifti,
)
from .io.npy import (
    npy_grid as npy_grid,
)
from .io.npy import (
    read_npy as read_npy,
)
from .io.npy import (
    write_npy as write_npy,
)
from .io.png import (
    png_grid as png_grid,
)
from .io.png import (
    read_png as read_png,
)
from .io.png import (
    write_png as write_png,
)
from .labels import (
    IGNORED as IGNORED,
)
from .labels import (
    PLAIN as PLAIN,
)
from .labels import (
    LabelCoding as LabelCoding,
)
from .labels import (
    asked_coding as asked_coding,
)
from .labels import (
    coding_of_labels as coding_of_labels,
)
from .loader import (
    Batch as Batch,
)
from .loader import (
    Loader as Loader,
)
from .loader import (
    PatchDraw as PatchDraw,
)
from .loader import (
    Sampling as Sampling,
)
from .loader import (
    prefetch as prefetch,
)
from .patches import (
    draw_corner as draw_corner,
)
from .patches import (
    extract_patch as extract_patch,
)
from .patches import (
    foreground_corner as foreground_corner,
)
from .patches import (
    gaussian_window as gaussian_window,
)
from .patches import (
    grid_corners as grid_corners,
)
from .patches import (
    sample_corner as sample_corner,
)
from .patches import (
    sliding_window as sliding_window,
)
from .patches import (
    to_mask as to_mask,
)
from .patches import (
    uniform_corner as uniform_corner,
)
from .phantom.dataset import (
    Kind as Kind,
)
from .phantom.dataset import (
    write_dataset as write_dataset,
)
from .prepare.bias_field import (
    N4 as N4,
)
from .prepare.bias_field import (
    correct_bias_field as correct_bias_field,
)
from .prepare.bias_field import (
    estimate_bias_field as estimate_bias_field,
)
from .prepare.brain import (
    METHODS as METHODS,
)
from .prepare.brain import (
    Extractor as Extractor,
)
from .prepare.brain import (
    extract_brain as extract_brain,
)
from .prepare.histogram import (
    check_landmarks as check_landmarks,
)
from .prepare.histogram import (
    landmark_percentiles as landmark_percentiles,
)
from .prepare.histogram import (
    read_landmarks as read_landmarks,
)
from .prepare.histogram import (
    standardize as standardize,
)
from .prepare.histogram import (
    train_landmarks as train_landmarks,
)
from .prepare.histogram import (
    write_landmarks as write_landmarks,
)
from .prepare.intensity import (
    Voxels as Voxels,
)
from .prepare.intensity import (
    Where as Where,
)
from .prepare.intensity import (
    choose as choose,
)
from .prepare.intensity import (
    clip_percentiles as clip_percentiles,
)
from .prepare.intensity import (
    min_max as min_max,
)
from .prepare.intensity import (
    rescale as rescale,
)
from .prepare.intensity import (
    z_score as z_score,
)
from .prepare.pipeline import (
    BiasFieldCorrection as BiasFieldCorrection,
)
from .prepare.pipeline import (
    BrainExtraction as BrainExtraction,
)
from .prepare.pipeline import (
    ClipPercentiles as ClipPercentiles,
)
from .prepare.pipeline import (
    CropOrPad as CropOrPad,
)
from .prepare.pipeline import (
    CropToForeground as CropToForeground,
)
from .prepare.pipeline import (
    HistogramStandardization as HistogramStandardization,
)
from .prepare.pipeline import (
    MinMax as MinMax,
)
from .prepare.pipeline import (
    Pipeline as Pipeline,
)
from .prepare.pipeline import (
    Reorient as Reorient,
)
from .prepare.pipeline import (
    Resample as Resample,
)
from .prepare.pipeline import (
    Rescale as Rescale,
)
from .prepare.pipeline import (
    Step as Step,
)
from .prepare.pipeline import (
    ZScore as ZScore,
)
from .prepare.presets import (
    preset as preset,
)
from .prepare.spatial import (
    Interpolation as Interpolation,
)
from .prepare.spatial import (
    crop_or_pad as crop_or_pad,
)
from .prepare.spatial import (
    crop_or_pad_grid as crop_or_pad_grid,
)
from .prepare.spatial import (
    crop_to_foreground as crop_to_foreground,
)
from .prepare.spatial import (
    foreground_grid as foreground_grid,
)
from .prepare.spatial import (
    resample as resample,
)
from .prepare.spatial import (
    spacing_grid as spacing_grid,
)
