"""What cases were for, by the split of a run."""

import json

import pytest

from segjax.errors import InputError
from segjax.evaluate.roles import read_roles, roles_in_words


def test_roles_are_read_from_the_split_of_a_run(tmp_path):
    assert read_roles(tmp_path) == {}
    split = {"train": ["a", "b"], "validation": ["c"], "test": ["d"]}
    (tmp_path / "split.json").write_text(json.dumps(split))
    roles = read_roles(tmp_path)
    assert roles == {"a": "training", "b": "training", "c": "validation", "d": "test"}
    told = roles_in_words("abcdef", roles)
    assert told == "2 training cases, 1 validation case, 1 test case, 2 cases not known"


def test_a_split_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "split.json").write_text("{")
    with pytest.raises(InputError, match=r"split\.json"):
        read_roles(tmp_path)
