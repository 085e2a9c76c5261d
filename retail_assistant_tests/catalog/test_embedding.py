"""Normal forms, keys and vectors of texts, with the real packaged MiniLM."""

import subprocess
import sys

import polars as pl
import pytest

from retail_assistant.catalog.embedding import DIMENSIONS, embed, embedding_key, normalise
from retail_assistant_tests.catalog.test_index import product_frame


def test_vectors_have_unit_length() -> None:
    vectors = embed(["a red dress", "a red dress", "steel bolts", "\ud800", ""])
    assert vectors.shape == (5, DIMENSIONS)
    assert abs((vectors**2).sum(axis=1) - 1.0).max() < 1e-5
    assert (vectors[0] == vectors[1]).all()
    assert embed([]).shape == (0, DIMENSIONS)


def test_embedding_asks_the_network_for_nothing() -> None:
    code = (
        "import sys\n"
        "asked = []\n"
        "wanted = ('socket.connect', 'socket.getaddrinfo')\n"
        "sys.addaudithook(lambda event, args: event in wanted and asked.append(args[1]))\n"
        "from retail_assistant.catalog.embedding import embed\n"
        "print(embed(['a red dress']).shape, asked)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=180
    )
    assert done.stdout == f"(1, {DIMENSIONS}) []\n"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("Women\u2019s T-Shirt", "women t shirt"),
        ("MENS  top & kids' cap", "men top and kid cap"),
        ("\uff46\uff55\uff4c\uff4c width\u00a0name", "full width name"),
        ("Girl's A-line Dress (Pink, 3/4)", "girl a line dress pink 3 4"),
        ("!?", ""),
    ],
)
def test_normalise(text: str, key: str) -> None:
    assert normalise(text) == key


def test_a_key_changes_with_the_embedded_text_and_with_nothing_else() -> None:
    frame = product_frame()
    keys = frame.select(embedding_key())["name"]
    other = frame.with_columns(
        pl.lit("another").alias("description"), pl.lit(1.0).alias("retail_price")
    )
    assert other.select(embedding_key())["name"].to_list() == keys.to_list()
    renamed = frame.with_columns(pl.col("name") + "!")
    assert not set(renamed.select(embedding_key())["name"]) & set(keys)
    assert keys.str.contains("^[0-9a-f]{32}$").all()
