"""Is a new catalog plausible? It is judged against the last one that was accepted.

Not against the one before it: else a catalog that lost half its products would be held back once,
and pass with one more row. Two pointers of the products table remember, for each source, what was
accepted last and the other one that was accepted before it. What another file holds is another
catalog: its first version is not judged by the products of the first file.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

import polars as pl

from retail_assistant.catalog.changes import (
    ChangeCounts,
    RefreshPolicy,
    category_units,
    change_counts,
    filled_shares,
    write_changes,
    write_no_changes,
)
from retail_assistant.catalog.clean import read_summary
from retail_assistant.storage import TableRef, TableStore

PRODUCTS = "products"
REJECTED = "rejected_products"
FIRST = "the first catalog of its source: nothing to compare it with"


@dataclass(frozen=True)
class CleanedTables:
    """A cleaned catalog as it is stored: its products and its rejected rows."""

    products: TableRef
    rejected: TableRef

    @property
    def rejected_share(self) -> float:
        """The share of the file's rows that became no product, 0 to 1."""
        return self.rejected.rows / max(1, self.rejected.rows + self.products.rows)


@dataclass(frozen=True)
class Verdict:
    """How a check of a new catalog ended."""

    passed: bool
    found: str
    facts: Mapping[str, float | str] = field(default_factory=dict)
    examples: pl.DataFrame | None = None


@dataclass(frozen=True)
class Acceptance:
    """Which catalogs of a source (path or URI) were accepted, kept in the table store."""

    store: TableStore
    source: str

    @property
    def accepted(self) -> CleanedTables | None:
        """The catalog that was accepted last; None before the first.

        Raises StorageError where its pointer is damaged: it must not pass for a first catalog.
        """
        if not self._has("accepted"):
            return None
        label = self._label("accepted")
        products = self.store.ref(PRODUCTS, label=label)
        return CleanedTables(products, self.store.ref(REJECTED, label=label))

    def accept(self, new: CleanedTables, output: Path) -> ChangeCounts | None:
        """Make `new` the accepted catalog; write what it changed to the parquet file `output`.

        Returns the counts, None for a first catalog (no row: all of it is new). Accepting the same
        products again tells the same changes again: those against the last one that differed.
        """
        accepted = self.accepted
        counts = None
        if accepted is not None:
            counts = write_changes(accepted.products.scan(), new.products.scan(), output)
            if counts.none:
                counts = self._changes_since_superseded(new, output)
            else:
                label = self._label("superseded")
                self.store.point(accepted.products, PRODUCTS, label=label)
        if counts is None:
            write_no_changes(output)
        # Rejected rows first: that there are accepted products says that a catalog was accepted.
        label = self._label("accepted")
        self.store.point(new.rejected, REJECTED, label=label)
        self.store.point(new.products, PRODUCTS, label=label)
        return counts

    def _changes_since_superseded(self, new: CleanedTables, output: Path) -> ChangeCounts | None:
        if not self._has("superseded"):
            return None
        superseded = self.store.ref(PRODUCTS, label=self._label("superseded"))
        return write_changes(superseded.scan(), new.products.scan(), output)

    def _has(self, role: str) -> bool:
        return (self.store.folder(PRODUCTS) / f"{self._label(role)}.json").is_file()

    def _label(self, role: str) -> str:
        """A pointer's name; the same file has the same one, however its path is written."""
        source = self.source
        if "://" not in source:
            source = str(Path(source).expanduser().resolve())
        return f"{role}-{blake2b(source.encode(), digest_size=8).hexdigest()}"


def enough_products_are_left(
    new: CleanedTables, accepted: CleanedTables, policy: RefreshPolicy
) -> Verdict:
    """The catalog has not lost too many products."""
    before, after = accepted.products.rows, new.products.rows
    # Not 1 - after / before: of 100 products 70 would be a drop of a little more than 0.3.
    drop = (before - after) / max(1, before)
    return Verdict(
        drop <= policy.max_row_drop,
        f"{after} products, {before} in the accepted catalog: {_change(after, before)};"
        f" allowed: at most {policy.max_row_drop:.1%} fewer (refresh.max_row_drop)",
        {"products": after, "accepted_products": before, "drop": drop},
    )


def no_category_vanished(
    new: CleanedTables, accepted: CleanedTables, policy: RefreshPolicy
) -> Verdict:
    """Every department, category and subcategory of some size is still there."""
    before = category_units(accepted.products.scan())
    watched = before.filter(pl.col("units") >= policy.min_category_units)
    after = category_units(new.products.scan()).rename({"units": "units_now"})
    vanished = watched.join(after, on=["level", "path"], how="anti").sort(
        "units", "path", descending=[True, False]
    )
    return Verdict(
        vanished.height <= policy.max_vanished_categories,
        f"{vanished.height} of {watched.height} categories with at least"
        f" {policy.min_category_units} products vanished; allowed: at most"
        f" {policy.max_vanished_categories} (refresh.max_vanished_categories,"
        " refresh.min_category_units)",
        {"vanished": vanished.height, "watched": watched.height},
        vanished,
    )


def no_column_was_lost(
    new: CleanedTables, accepted: CleanedTables, policy: RefreshPolicy
) -> Verdict:
    """The source still fills the columns that it filled."""
    before, after = (filled_shares(one.products.scan()) for one in (accepted, new))
    shares = pl.DataFrame(
        [
            (name, share, after.get(name, 0.0))
            for name, share in before.items()
            if share >= policy.min_filled_share
        ],
        schema={"column": pl.String, "filled_before": pl.Float64, "filled_now": pl.Float64},
        orient="row",
    )
    least = pl.col("filled_before") * (1 - policy.max_filled_drop)
    lost = shares.filter(
        (pl.col("filled_now") < least)
        | ((pl.col("filled_now") == 0) & (policy.max_filled_drop < 1))
    )
    columns_before, columns_now = (
        set(read_summary(one.products.path).columns) for one in (accepted, new)
    )
    return Verdict(
        lost.is_empty(),
        f"{lost.height} of {shares.height} columns lost their values"
        f"{': ' if lost.height else ''}{', '.join(lost['column'])}; allowed: a share of filled"
        f" values at most {policy.max_filled_drop:.0%} lower (refresh.max_filled_drop,"
        " refresh.min_filled_share)",
        {
            "lost": lost.height,
            "watched": shares.height,
            "columns_gone_from_the_file": ", ".join(sorted(columns_before - columns_now)),
            "columns_new_in_the_file": ", ".join(sorted(columns_now - columns_before)),
        },
        lost,
    )


def few_rows_are_rejected(
    new: CleanedTables, accepted: CleanedTables | None, policy: RefreshPolicy
) -> Verdict:
    """Most rows of the file became products; asked of the first catalog of a source too."""
    before = accepted.rejected_share if accepted is not None else 0.0
    allowed = max(policy.max_rejected_share, before)
    return Verdict(
        new.rejected_share <= allowed,
        f"{new.rejected.rows} rows, {new.rejected_share:.1%} of the file, were rejected;"
        f" allowed: at most {allowed:.1%} (refresh.max_rejected_share, or what the accepted"
        " catalog had)",
        {
            "rejected": new.rejected.rows,
            "rejected_share": new.rejected_share,
            "accepted_rejected_share": before,
        },
    )


def most_products_are_as_before(
    new: CleanedTables, accepted: CleanedTables, policy: RefreshPolicy
) -> Verdict:
    """The refresh does not remove or change most of the accepted products."""
    counts = change_counts(accepted.products.scan(), new.products.scan())
    touched = counts.removed + counts.changed
    share = touched / max(1, counts.before)
    return Verdict(
        share <= policy.max_changed_share,
        f"{counts.removed} of {counts.before} products removed and {counts.changed} changed:"
        f" {share:.1%}; allowed: at most {policy.max_changed_share:.1%}"
        " (refresh.max_changed_share)",
        {
            "added": counts.added,
            "removed": counts.removed,
            "changed": counts.changed,
            "changed_share": share,
        },
    )


RefreshCheck = Callable[[CleanedTables, CleanedTables, RefreshPolicy], Verdict]

REFRESH_CHECKS: dict[str, RefreshCheck] = {
    check.__name__: check
    for check in (
        enough_products_are_left,
        no_category_vanished,
        no_column_was_lost,
        few_rows_are_rejected,
        most_products_are_as_before,
    )
}
"""What a new catalog is asked before anything is made from it, by name."""


def first_verdict(name: str, new: CleanedTables, policy: RefreshPolicy) -> Verdict:
    """How a check of the first catalog of its source ends, by the check's name."""
    if name == few_rows_are_rejected.__name__:
        return few_rows_are_rejected(new, None, policy)
    return Verdict(passed=True, found=FIRST)


def _change(after: int, before: int) -> str:
    if after == before:
        return "as many"
    share = abs(after - before) / max(1, before)
    return f"{share:.1%} {'fewer' if after < before else 'more'}"
