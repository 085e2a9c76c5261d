"""The sample sheet of a corpus version: what the data steward reads before deciding on it.

One HTML file without scripts that makes no request to anywhere; it can be printed and read on a
phone. Catalog text is untrusted: all of it is escaped, invisible characters are spelled out, and
each text keeps its own direction of writing.
"""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from retail_assistant.corpus.approval import (
    ApprovalPolicy,
    ApprovedCorpus,
    decide_command,
    short_version,
)
from retail_assistant.corpus.changes import CorpusChanges, corpus_changes
from retail_assistant.corpus.dialogues import INTENTS, SUBSETS
from retail_assistant.corpus.draws import hash_order
from retail_assistant.corpus.fairness import fairness_table

if TYPE_CHECKING:
    from jinja2 import Environment

SHEET_VERSION = "1"
DECIDING_JOB = "decide_corpus"
MOST_GROUPS = 12
MOST_CHARACTERS = 700
LENGTH_BINS = 24
SUBSET_MEANINGS = {
    "train": "learned from",
    "validation": "watched while learning",
    "recall": "asked about learned facts, in a wording that was not learned from",
    "unseen": "asked about products that are never learned from",
    "unanswerable": "asked about what does not exist: the right answer is to say so",
}

_TEMPLATES = Path(__file__).parent / "templates"
_DESCRIBING = ("name", "brand", "department", "category", "subcategory")


def sample_sheet(
    version: str,
    screened: pl.DataFrame,
    rejected: pl.DataFrame,
    products: pl.DataFrame,
    *,
    last_approved: ApprovedCorpus | None = None,
    policy: ApprovalPolicy | None = None,
    seed: int = 0,
    cost: Mapping[str, object] | None = None,
) -> str:
    """The sheet as HTML.

    `screened`: dialogues (DialogueSchema); `rejected`: the same with reason and detail; `products`:
    the assortment that they speak of. `last_approved` is compared with. `cost`: what generating
    took, by name. The same arguments give the same sheet.
    """
    policy = policy or ApprovalPolicy()
    return (
        _environment()
        .get_template("sheet.html.j2")
        .render(
            version=version,
            short=short_version(version),
            headline=headline(screened, rejected),
            generators=generators(screened),
            cost=cost or {},
            counts=counts_table(screened),
            intents=INTENTS,
            meanings=SUBSET_MEANINGS,
            rejected=rejected_reasons(rejected, policy.rejected_samples, seed),
            rejected_count=rejected.height,
            dialogues=screened.height,
            samples=samples(screened, products, policy.samples, seed),
            statistics=statistics(screened),
            lengths=[_histogram(screened, "question"), _histogram(screened, "answer")],
            groups=product_groups(screened, rejected, products),
            last=last_approved,
            changes=_changes(last_approved, screened, policy.changed_samples, seed),
            job=DECIDING_JOB,
            approve=decide_command(version),
            reject=decide_command(version, "reject"),
        )
    )


def sheet_name(version: str) -> str:
    """The file name of a version's sheet."""
    return f"corpus-{short_version(version)}.html"


def headline(screened: pl.DataFrame, rejected: pl.DataFrame) -> str:
    """The corpus in one sentence."""
    total = screened.height + rejected.height
    about = screened["product_id"].drop_nulls().n_unique()
    learned = screened.filter(pl.col("subset") == "train").height
    return (
        f"{screened.height:,} dialogues about {about:,} products, {learned:,} of them to learn"
        f" from; {rejected.height:,} of {total:,} were rejected by the screens."
    )


def generators(screened: pl.DataFrame) -> list[str]:
    """What wrote the dialogues, with its version; the one that wrote most first."""
    counts = screened.group_by("generator", "generator_version").len()
    ordered = counts.sort("len", "generator", "generator_version", descending=[True, False, False])
    return [f"{name} {version}" for name, version, _ in ordered.iter_rows()]


def counts_table(screened: pl.DataFrame) -> dict[str, dict[str, int]]:
    """Dialogues by subset and intent, both in their one order; those without any are left out."""
    found: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for subset, intent, count in screened.group_by("subset", "intent").len().iter_rows():
        found[subset][intent] = count
    return {
        subset: {intent: found[subset][intent] for intent in INTENTS if intent in found[subset]}
        for subset in SUBSETS
        if subset in found
    }


def counts_markdown(screened: pl.DataFrame, version: str) -> str:
    """The counts and what to do, as Markdown for the Dagster UI; it holds no catalog text."""
    counts = counts_table(screened)
    shown = [intent for intent in INTENTS if any(intent in row for row in counts.values())]
    lines = [["subset", *shown, "all"], ["---", *["---:"] * (len(shown) + 1)]]
    for subset, row in counts.items():
        cells = (row.get(intent, 0) for intent in shown)
        lines.append([subset, *map(str, cells), str(sum(row.values()))])
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return (
        f"Corpus **{short_version(version)}**\n\n{table}\n\nTo decide on it: launch the job"
        f" `{DECIDING_JOB}`, or\n\n    {decide_command(version)}"
    )


def samples(
    screened: pl.DataFrame, products: pl.DataFrame, count: int, seed: int
) -> list[dict[str, Any]]:
    """Up to `count` dialogues of each intent of each subset, drawn by hash, with their evidence."""
    drawn = [
        (subset, intent, all_of, hash_order(rows, _identity, "sheet", seed)[:count])
        for (subset, intent), all_of, rows in _strata(screened)
    ]
    shown = [row for *_, rows in drawn for row in rows]
    records = _records(products, shown)
    return [
        {
            "subset": subset,
            "intent": intent,
            "of": all_of,
            "dialogues": [row | _evidence(row, records) for row in rows],
        }
        for subset, intent, all_of, rows in drawn
    ]


def _strata(
    screened: pl.DataFrame,
) -> Iterable[tuple[tuple[str, str], int, list[dict[str, Any]]]]:
    parts = screened.partition_by("subset", "intent", as_dict=True)
    for subset in SUBSETS:
        for intent in INTENTS:
            rows = parts.get((subset, intent))
            if rows is not None:
                yield (subset, intent), rows.height, rows.to_dicts()


def _identity(row: Mapping[str, Any]) -> str:
    return str(row["dialogue_id"])


def _records(
    products: pl.DataFrame, dialogues: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """The products that the dialogues speak of, by id."""
    ids = {i for row in dialogues for i in (row["product_id"], *row["evidence"]["product_ids"])}
    named = products.filter(pl.col("product_id").is_in([i for i in ids if i]))
    return {row["product_id"]: row for row in named.to_dicts()}


def _evidence(row: Mapping[str, Any], records: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What the catalog says where the dialogue's evidence points to."""
    product = records.get(row["product_id"] or "", {})
    stated: defaultdict[str, list[str]] = defaultdict(list)
    for entry in product.get("attributes") or ():
        stated[entry["name"] or ""].append(entry["value"])
    others = [i for i in row["evidence"]["product_ids"] if i != row["product_id"]]
    return {
        "record": [product[level] for level in _DESCRIBING[1:] if product.get(level)],
        "facts": [(name, stated.get(name, [])) for name in row["evidence"]["attributes"]],
        "others": [(i, records.get(i, {}).get("name")) for i in others],
        "documents": row["evidence"].get("documents") or [],
    }


def rejected_reasons(rejected: pl.DataFrame, count: int, seed: int) -> list[dict[str, Any]]:
    """Each reason with how many dialogues it took, most first, and up to `count` of them."""
    parts = rejected.partition_by("reason", as_dict=True)
    return [
        {
            "reason": reason,
            "count": rows.height,
            "share": rows.height / rejected.height,
            "dialogues": hash_order(rows.to_dicts(), _identity, "sheet", seed)[:count],
        }
        for (reason,), rows in sorted(parts.items(), key=lambda part: (-part[1].height, part[0]))
    ]


def statistics(screened: pl.DataFrame) -> list[tuple[str, str]]:
    """Numbers about the whole corpus, each with its name."""
    about = screened.drop_nulls("product_id")
    each = about.group_by("product_id").len()["len"]
    facts = screened.filter(pl.col("intent") == "attribute")
    paraphrased = facts.group_by("product_id", "asked_attribute").len()["len"]
    return [
        ("Products that are spoken of", f"{each.len():,}"),
        ("Dialogues for each of them", _spread(each)),
        ("Dialogues about no product", f"{screened.height - about.height:,}"),
        ("Facts that are asked", f"{paraphrased.len():,}"),
        ("Questions for each fact", _spread(paraphrased)),
        ("Ways of asking", f"{screened['phrasing'].n_unique():,}"),
        ("Attributes that are asked", f"{facts['asked_attribute'].n_unique():,}"),
        ("Characters of a question", _spread(screened["question"].str.len_chars())),
        ("Characters of an answer", _spread(screened["answer"].str.len_chars())),
    ]


def _spread(numbers: pl.Series) -> str:
    if numbers.is_empty():
        return "none"
    least, middle, high, most = (
        f"{numbers.quantile(q, 'nearest') or 0:,.0f}" for q in (0, 0.5, 0.95, 1)
    )
    return f"{least} to {most}; median {middle}, 95% up to {high}"


def _histogram(screened: pl.DataFrame, column: str) -> dict[str, Any]:
    """Counts of lengths in bins of equal width from 0 to the longest."""
    lengths = screened[column].str.len_chars().to_list()
    longest = max(lengths, default=1)
    counts = [0] * LENGTH_BINS
    for length in lengths:
        counts[min(LENGTH_BINS - 1, length * LENGTH_BINS // longest)] += 1
    return {"of": column, "counts": counts, "most": max(counts), "longest": longest}


def product_groups(
    screened: pl.DataFrame, rejected: pl.DataFrame, products: pl.DataFrame
) -> tuple[list[dict[str, Any]], int]:
    """Rows of the fairness table, and how many more it has.

    Shown are the largest groups of each dimension and all that are far from the whole.
    """
    groups = fairness_table(products, screened, rejected)
    among_the_largest = pl.int_range(pl.len()).over("dimension") < MOST_GROUPS
    rows = groups.filter(among_the_largest | (pl.col("far_from_whole").list.len() > 0))
    return rows.to_dicts(), groups.height - rows.height


def _changes(
    last: ApprovedCorpus | None, screened: pl.DataFrame, count: int, seed: int
) -> dict[str, Any] | None:
    """Counts and examples of what the version changed; None where nothing can be compared."""
    compared = compared_with(last, screened)
    if compared is None:
        return None
    examples = {
        name: hash_order(getattr(compared, name).to_dicts(), _identity, "sheet", seed)[:count]
        for name in ("changed", "moved", "added", "removed")
    }
    return {"counts": compared.counts, "examples": examples}


def compared_with(last: ApprovedCorpus | None, screened: pl.DataFrame) -> CorpusChanges | None:
    """What changed since the last approved corpus; None without one that can be read."""
    if last is None or last.dialogues is None:
        return None
    try:
        return corpus_changes(last.dialogues, screened)
    except ValueError:
        return None


def _environment() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"cell": _cell, "percent": _percent}
    return environment


def _shown(value: Any) -> Any:
    """Text as a person may judge it: invisible characters spelled out, very long text cut."""
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    cut = value if len(value) <= MOST_CHARACTERS else f"{value[:MOST_CHARACTERS]}…"
    return "".join(_visible(character) for character in cut)


def _visible(character: str) -> str:
    hidden = unicodedata.category(character) in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
    return f"[U+{ord(character):04X}]" if hidden and character != "\n" else character


def _percent(share: float | None) -> str:
    return "\u2013" if share is None else f"{100 * share:.1f}%"


def _cell(value: object) -> str:
    if value is None:
        return "\u2013"
    if isinstance(value, float):
        return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
