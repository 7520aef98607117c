"""Quantities as people read them."""

from ecrl.units import format_count


def test_a_count_of_one_has_a_singular_noun_and_any_other_a_plural_one() -> None:
    assert [format_count(n, "suite") for n in (0, 1, 2)] == ["0 suites", "1 suite", "2 suites"]
    assert [format_count(n, "process", "processes") for n in (1, 2)] == ["1 process", "2 processes"]
