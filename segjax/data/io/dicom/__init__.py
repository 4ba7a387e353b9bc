"""DICOM: series of slices, segmentations, structure sets."""
