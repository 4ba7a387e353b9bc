"""The reliability curve."""

import re

import numpy as np

from segjax.evaluate.calibration import calibration_of
from segjax.report.reliability_plot import reliability_curve


def test_each_label_is_named_with_its_error(tmp_path):
    found = calibration_of(truth=np.array([0, 1]), probability=np.array([0.2, 0.7]))
    reliability_curve({"lesion": found, "cyst": found}, tmp_path / "curve.svg")
    told = re.findall(r"<!-- (.*?) -->", (tmp_path / "curve.svg").read_text(encoding="utf-8"))
    assert "lesion: expected calibration error 0.250" in told
    assert "cyst: expected calibration error 0.250" in told
