"""How far a judge agrees with a person who judged the same answers."""

import math
from pathlib import Path

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

SHEET_COLUMNS = ("dialogue_id", "variant", "truthfulness")
LEAST_PAIRS = 3


class Agreement(BaseModel):
    """Agreement on the answers that both judged; null where it cannot be told."""

    model_config = ConfigDict(frozen=True)

    answers: int = Field(description="judged by both")
    only_sheet: int = Field(description="rows of the sheet that the judge has no score for")
    spearman: float | None = Field(description="rank correlation (Spearman 1904)")
    spearman_p: float | None = None
    quadratic_kappa: float | None = Field(
        description="Cohen's kappa with quadratic weights (Cohen 1968), scores as whole numbers"
    )
    exact_share: float | None = Field(description="same score, as whole numbers")
    mean_difference: float | None = Field(description="judge less person")


def read_sheet(path: Path) -> pl.DataFrame:
    """A person's judgements: dialogue_id, variant, truthfulness (1 to 5).

    Raises:
        ValueError: it cannot be read, lacks a column, repeats an answer, or holds another score.
    """
    try:
        sheet = pl.read_csv(path, infer_schema=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ValueError(f"{path} cannot be read as csv: {error}") from error
    missing = [column for column in SHEET_COLUMNS if column not in sheet.columns]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}; needed: {', '.join(SHEET_COLUMNS)}")
    filled = sheet.select(SHEET_COLUMNS).filter(
        pl.col("truthfulness").fill_null("").str.strip_chars() != ""
    )
    scores = filled.with_columns(
        score=pl.col("truthfulness").str.strip_chars().cast(pl.Float64, strict=False)
    )
    wrong = scores.filter(~pl.col("score").is_between(1, 5).fill_null(value=False))
    if wrong.height:
        first = wrong.row(0, named=True)
        raise ValueError(
            f"{path}: {first['dialogue_id']}, {first['variant']}: truthfulness"
            f" {first['truthfulness']!r}; allowed: 1 to 5, or nothing where it was not judged"
        )
    if scores.select(SHEET_COLUMNS[:2]).is_duplicated().any():
        raise ValueError(f"{path} judges an answer twice; allowed: one row an answer")
    return scores.select("dialogue_id", "variant", truthfulness="score")


def agreement(judged: pl.DataFrame, sheet: pl.DataFrame) -> Agreement:
    """Compare a judge's mean scores (dialogue_id, variant, truthfulness) with a person's sheet."""
    keys = ["dialogue_id", "variant"]
    scored = judged.select(*keys, judge="truthfulness").drop_nulls("judge")
    both = sheet.join(scored, on=keys, how="inner")
    judge, person = both["judge"].to_numpy(), both["truthfulness"].to_numpy()
    rounded = [[math.floor(score + 0.5) for score in scores] for scores in (judge, person)]
    enough = both.height >= LEAST_PAIRS
    varies = enough and len(set(judge)) > 1 and len(set(person)) > 1
    rho, p = _spearman(judge, person) if varies else (None, None)
    same = sum(a == b for a, b in zip(*rounded, strict=True))
    return Agreement(
        answers=both.height,
        only_sheet=sheet.height - both.height,
        spearman=rho,
        spearman_p=p,
        quadratic_kappa=_kappa(*rounded) if enough else None,
        exact_share=same / both.height if both.height else None,
        mean_difference=float((judge - person).mean()) if both.height else None,
    )


def _spearman(judge: object, person: object) -> tuple[float, float]:
    from scipy.stats import spearmanr

    found = spearmanr(judge, person)
    return float(found.statistic), float(found.pvalue)


def _kappa(judge: list[int], person: list[int]) -> float | None:
    from sklearn.metrics import cohen_kappa_score

    if len({*judge, *person}) < 2:
        return None
    return float(cohen_kappa_score(judge, person, labels=[1, 2, 3, 4, 5], weights="quadratic"))
