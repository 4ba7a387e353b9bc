import pytest

from segjax.text import brief, clock, duration, exact, listed, plural, unknown


def test_numbers_have_as_few_digits_as_tell_them_apart():
    texts = [exact(value) for value in (0.5, 0.5000001, 0.1 + 0.2, 1.0, 3)]
    assert texts == ["0.5", "0.5000001", "0.30000000000000004", "1", "3"]


def test_only_one_is_singular():
    assert [plural(n, "case") for n in (0, 1, 2)] == ["0 cases", "1 case", "2 cases"]


@pytest.mark.parametrize(
    ("seconds", "words", "digits"),
    [
        (0.04, "0.0 s", "0:00:00"),
        (59.94, "59.9 s", "0:01:00"),
        (59.96, "1 min 0 s", "0:01:00"),
        (133.4, "2 min 13 s", "0:02:13"),
        (3599.4, "59 min 59 s", "0:59:59"),
        (3599.6, "1 h 0 min", "1:00:00"),
        (214_200, "59 h 30 min", "59:30:00"),
    ],
)
def test_times_never_have_sixty_of_a_unit(seconds, words, digits):
    assert (duration(seconds), clock(seconds)) == (words, digits)


def test_long_lists_and_values_are_cut():
    assert [listed(names, 2) for names in ([], ["a"], ["a", "b"], [1, 2, 3])] == [
        "", "a", "a, b", "1, 2 and 1 more",
    ]  # fmt: skip
    assert brief("a" * 97) == repr("a" * 97)
    assert brief("a" * 99) == f"'{'a' * 98}…"


def test_unknown_names_are_told_with_the_nearest():
    assert unknown("loss", "dic", ("dice", "focal")) == (
        "unknown loss 'dic': did you mean 'dice'? Known are dice, focal"
    )
    assert unknown("loss", None, ()) == "unknown loss None: known are none"
