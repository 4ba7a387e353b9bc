from segjax.text import exact, plural


def test_numbers_have_as_few_digits_as_tell_them_apart():
    texts = [exact(value) for value in (0.5, 0.5000001, 0.1 + 0.2, 1.0, 3)]
    assert texts == ["0.5", "0.5000001", "0.30000000000000004", "1", "3"]


def test_only_one_is_singular():
    assert [plural(n, "case") for n in (0, 1, 2)] == ["0 cases", "1 case", "2 cases"]
