from segjax.words import plural


def test_only_one_is_singular():
    assert [plural(n, "case") for n in (0, 1, 2)] == ["0 cases", "1 case", "2 cases"]
