"""The Pareto front of accuracy and cost."""

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from retail_assistant.evaluation.pareto import pareto_fronts

AMOUNTS = st.integers(0, 4)


def fronts(models: dict[str, tuple[float | None, float | None]]) -> pl.DataFrame:
    """Of models by name: (accuracy, seconds of training)."""
    summary = pl.DataFrame(
        [(name, "strict_accuracy", "unseen", a, a, a) for name, (a, _) in models.items()],
        schema={
            "variant": pl.String, "metric": pl.String, "subset": pl.String,
            "value": pl.Float64, "low": pl.Float64, "high": pl.Float64,
        },
        orient="row",
    )  # fmt: skip
    costs = pl.DataFrame(
        [(name, cost) for name, (_, cost) in models.items()],
        schema={"variant": pl.String, "train_seconds": pl.Float64},
        orient="row",
    )
    return pareto_fronts(summary, costs)


def test_the_front_and_what_it_dominates() -> None:
    frame = fronts({"a": (0.9, 10.0), "b": (0.8, 20.0), "c": (0.5, 1.0), "d": (0.5, 2.0)})
    assert dict(frame.select("variant", "dominated_by").iter_rows()) == {
        "c": None, "d": "c", "a": None, "b": "a",
    }  # fmt: skip
    assert frame["spent"].to_list() == [1, 2, 10, 20]


def test_equals_do_not_dominate_each_other() -> None:
    assert fronts({"a": (0.5, 1.0), "b": (0.5, 1.0)})["on_front"].all()


def test_what_was_not_measured_is_in_no_front() -> None:
    frame = fronts({"a": (None, 1.0), "b": (0.5, None), "c": (0.1, 5.0)})
    assert frame["variant"].to_list() == ["c"]
    assert fronts({}).is_empty()


@given(st.dictionaries(st.text("abcdef", min_size=1), st.tuples(AMOUNTS, AMOUNTS)))
def test_a_model_is_on_the_front_or_beaten_by_one_that_is(
    models: dict[str, tuple[int, int]],
) -> None:
    frame = fronts({name: (float(a), float(c)) for name, (a, c) in models.items()})
    assert set(frame["variant"]) == set(models)
    if models:
        assert frame["on_front"].any()
    on_front = set(frame.filter("on_front")["variant"])
    for variant, better in frame.select("variant", "dominated_by").iter_rows():
        assert (better is None) == (variant in on_front)
        if better is not None:
            assert better in on_front
            (accuracy, cost), (own, spent) = models[better], models[variant]
            assert accuracy >= own
            assert cost <= spent
            assert (accuracy, cost) != (own, spent)
