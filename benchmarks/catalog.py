"""Rows a second and peak memory of cleaning a catalog, beside two rivals on the same rows, one run.

    .venv/bin/python benchmarks/catalog.py [--rows 20000 1000000 10000000] [--rounds 3]
        [--reference DIR --spacy-model NAME_OR_FOLDER]

Rivals: what polars alone takes to read the CSV and write parquet (nothing cleaned), and the public
reference implementation's own row cleaning (its description, attribute and category steps, one
process a core, no images) on --reference-rows rows. For the latter name a checkout of
GoogleCloudPlatform/accelerated-platforms and a spaCy English model, and have its imports installed
(jsonpickle, google-cloud-storage, pandas, ray, spacy). The rows are invented, and as long as the
public sample's on average (`full_length.py`); ten million of them take 20 GB under --folder.

Each measurement is a process of its own; the contenders take turns, and medians are printed. Before
the clock starts, each contender has worked on a hundred rows: imports, word lists and models are
loaded. Peak memory is the kernel's VmHWM of the process.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from retail_assistant.catalog.synthesize import write_catalog

OURS, POLARS, REFERENCE = "products", "polars alone", "reference"
NEAR = "near_duplicates"


def clean(catalog: Path, folder: Path) -> int:
    from retail_assistant.catalog.clean import clean_catalog

    return clean_catalog(str(catalog), folder).summary.rows_in


def copy(catalog: Path, folder: Path) -> int:
    import polars as pl

    pl.scan_csv(catalog, infer_schema=False).sink_parquet(folder / "copy.parquet")
    return pl.scan_parquet(folder / "copy.parquet").select(pl.len()).collect().item()


def find_near_duplicates(catalog: Path, folder: Path) -> int:
    import polars as pl

    from retail_assistant.catalog.near_duplicates import write_near_duplicates

    found = write_near_duplicates(
        pl.scan_parquet(catalog.with_suffix(".products.parquet")), folder / "near.parquet"
    )
    return found.products


def reference(catalog: Path, pool) -> int:
    """The reference's own functions on their chunks of 199 rows."""
    import pandas as pd

    columns = ["uniq_id", "description", "product_specifications", "product_category_tree"]
    rows = pd.read_csv(catalog, usecols=columns).dropna()
    chunks = [rows.iloc[start : start + 199].copy() for start in range(0, len(rows), 199)]
    return sum(pool.map(reference_chunk, chunks, chunksize=1))


def reference_worker(checkout: str, model: str) -> None:
    global cleaner
    sys.path.insert(0, str(Path(checkout) / "modules" / "python" / "src"))
    import spacy
    from datapreprocessing.datacleaner import DataPreprocessor

    # Not __init__: that connects to Google Cloud, which row cleaning does not need.
    cleaner = object.__new__(DataPreprocessor)
    cleaner.nlp = spacy.load(model)


def reference_chunk(chunk) -> int:
    cleaned = cleaner.prep_product_desc(chunk)
    cleaned["attributes"] = cleaned["product_specifications"].apply(cleaner.parse_attributes)
    return len(cleaner.prep_cat(cleaned))


def peak_mib() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def measure(given: argparse.Namespace) -> None:
    from multiprocessing import get_context

    work = {OURS: clean, POLARS: copy, NEAR: find_near_duplicates}
    pool = None
    if given.measure == REFERENCE:
        setup = (str(given.reference), given.spacy_model)
        pool = get_context("spawn").Pool(os.cpu_count(), reference_worker, setup)

    def run(catalog: Path, folder: Path) -> int:
        return reference(catalog, pool) if pool else work[given.measure](catalog, folder)

    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        run(few_rows(given.catalog, folder), folder)
        started, used = time.perf_counter(), time.process_time()
        rows = run(given.catalog, folder)
        seconds, cpu = time.perf_counter() - started, time.process_time() - used
        if given.measure == OURS:
            (folder / "products.parquet").replace(given.catalog.with_suffix(".products.parquet"))
    print(json.dumps({"rows": rows, "seconds": seconds, "cpu": cpu, "peak_mib": peak_mib()}))


def few_rows(catalog: Path, folder: Path) -> Path:
    """The first hundred rows of a catalog, and of its products where there are any."""
    import polars as pl

    few = folder / "few.csv"
    pl.scan_csv(catalog, infer_schema=False).head(100).collect().write_csv(few)
    products = catalog.with_suffix(".products.parquet")
    if products.exists():
        pl.scan_parquet(products).head(100).sink_parquet(few.with_suffix(".products.parquet"))
    return few


def measured(what: str, catalog: Path, given: argparse.Namespace) -> dict:
    command = [sys.executable, __file__, "--measure", what, "--catalog", str(catalog)]
    command += ["--folder", str(given.folder), "--spacy-model", given.spacy_model]
    command += ["--reference", str(given.reference)] if given.reference else []
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def compare(rows: int, given: argparse.Namespace) -> None:
    catalog = given.folder / f"catalog-long-{rows}.csv"
    if not catalog.exists():
        write_catalog(catalog, rows=rows, seed=1, long=True)
    contenders = list(given.contenders)
    if given.reference and rows == given.reference_rows:
        contenders.append(REFERENCE)
    runs: dict[str, list[dict]] = {name: [] for name in contenders}
    for turn in range(given.rounds if rows <= 1_000_000 else 1):
        for name in contenders:
            if name != REFERENCE or turn == 0:  # minutes, and it varies little
                runs[name].append(measured(name, catalog, given))
    ours = statistics.median(run["seconds"] for run in runs[OURS])
    for name, taken in runs.items():
        seconds = statistics.median(run["seconds"] for run in taken)
        cpu = statistics.median(run["cpu"] for run in taken)
        peak = statistics.median(run["peak_mib"] for run in taken)
        # The reference works in processes of its own.
        own = f"{cpu:>9.2f} {peak:>9.0f}" if name != REFERENCE else f"{'':>19}"
        print(
            f"{rows:>10} {name:<16} {seconds:>9.2f} {taken[0]['rows'] / seconds:>11.0f} {own}"
            f" {ours / seconds:>13.3f}  {len(taken)}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[20_000, 1_000_000, 10_000_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--contenders", nargs="+", choices=[POLARS, OURS, NEAR], default=[POLARS, OURS, NEAR]
    )
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--reference", type=Path)
    parser.add_argument("--reference-rows", type=int, default=20_000)
    parser.add_argument("--spacy-model", default="en_core_web_sm")
    parser.add_argument("--measure", choices=[OURS, POLARS, NEAR, REFERENCE], help="(internal)")
    parser.add_argument("--catalog", type=Path, help="(internal)")
    given = parser.parse_args()
    if given.measure:
        measure(given)
        return
    given.folder.mkdir(parents=True, exist_ok=True)
    print(
        f"{'rows':>10} {'contender':<16} {'seconds':>9} {'rows/s':>11} {'CPU s':>9} {'peak MiB':>9}"
        f" {'products / it':>13}  runs"
    )
    for rows in given.rows:
        compare(rows, given)
    print(f"{os.cpu_count()} cores; seconds are medians; products / it: ours over that contender")


if __name__ == "__main__":
    main()
