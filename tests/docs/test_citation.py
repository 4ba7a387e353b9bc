import yaml

import segjax
from tests.docs.conftest import HERE

REQUIRED = {"cff-version", "message", "title", "authors"}


def test_citation_names_this_version():
    text = (HERE.parents[1] / "CITATION.cff").read_text(encoding="utf-8")
    citation = yaml.safe_load(text)
    assert citation.keys() >= REQUIRED
    assert citation["version"] == segjax.__version__
    assert all({"type", "title", "authors"} <= one.keys() for one in citation["references"])
