"""A judge beside a person: agreement, and sheets that cannot be used."""

from pathlib import Path

import polars as pl
import pytest

from retail_assistant.evaluation.agreement import agreement, read_sheet


def scores(*values: float | None) -> pl.DataFrame:
    ids = [f"q{number}" for number in range(len(values))]
    return pl.DataFrame(
        {"dialogue_id": ids, "variant": ["job"] * len(ids), "truthfulness": values},
        schema={"dialogue_id": pl.String, "variant": pl.String, "truthfulness": pl.Float64},
    )


def test_one_who_says_the_same_agrees() -> None:
    found = agreement(scores(1, 2, 3, 4, 5), scores(1, 2, 3, 4, 5))
    assert (found.answers, found.spearman, found.quadratic_kappa) == (5, pytest.approx(1), 1)
    assert (found.exact_share, found.mean_difference) == (1, 0)


def test_one_who_is_kinder_keeps_the_order_and_loses_kappa() -> None:
    found = agreement(scores(3, 4, 4.6, 5), scores(1, 2, 3, 4))
    assert found.spearman == pytest.approx(1)
    # By hand: squared differences 4, 4, 4, 1; over all pairs of 3, 4, 5, 5 and 1, 2, 3, 4 they are
    # 6 + 14 + 30 + 30.
    assert found.quadratic_kappa == pytest.approx(1 - (13 / 4) / (80 / 16))
    assert found.mean_difference == pytest.approx(1.65)
    assert found.exact_share == 0


def test_only_what_both_judged_is_compared() -> None:
    found = agreement(scores(1, None, 5), scores(1, 3, 5, 2))
    assert (found.answers, found.only_sheet, found.spearman) == (2, 2, None)
    alike = agreement(scores(5, 5, 5), scores(5, 5, 5))
    assert (alike.spearman, alike.quadratic_kappa, alike.exact_share) == (None, None, 1)
    assert agreement(scores(), scores(1)).exact_share is None


def test_a_sheet_is_read(tmp_path: Path) -> None:
    path = tmp_path / "sheet.csv"
    path.write_text(
        "dialogue_id,variant,truthfulness,note\n001,job,5,\n002,job, 2 ,hm\n003,job,,\n"
    )
    assert read_sheet(path).rows() == [("001", "job", 5.0), ("002", "job", 2.0)]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("dialogue_id,variant\n1,job\n", "lacks truthfulness"),
        ("dialogue_id,variant,truthfulness\n1,job,6\n", "'6'; allowed: 1 to 5"),
        ("dialogue_id,variant,truthfulness\n1,job,good\n", "'good'; allowed: 1 to 5"),
        ("dialogue_id,variant,truthfulness\n1,job,nan\n", "allowed: 1 to 5"),
        ("dialogue_id,variant,truthfulness\n1,job,1\n1,job,2\n", "judges an answer twice"),
        ("", "cannot be read"),
    ],
)
def test_a_sheet_that_cannot_be_used_is_refused(tmp_path: Path, content: str, told: str) -> None:
    path = tmp_path / "sheet.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match=told):
        read_sheet(path)
