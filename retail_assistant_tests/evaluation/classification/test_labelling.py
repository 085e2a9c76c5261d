"""New texts labelled into a file, and a file that was broken off."""

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from retail_assistant.corpus.encoding import Encoder
from retail_assistant.corpus.labelled_text_files import LabelledTextError
from retail_assistant.evaluation.classification import labelling
from retail_assistant.evaluation.classification.labelling import (
    Classifier,
    NewText,
    label_file,
    new_texts,
)
from retail_assistant.evaluation.classification.labels import Labels
from retail_assistant.evaluation.engine import open_engine
from retail_assistant_tests.model_families import llama_tokenizer, save_tiny_model

TEXTS = [
    NewText(1, "Soft, warm"),
    NewText(2, ""),
    NewText(3, 'She said "no"'),
    NewText(4, "word " * 200),
    NewText(5, "=Neat"),
]


def test_texts_are_found_in_any_file(tmp_path: Path) -> None:
    one = tmp_path / "one.csv"
    one.write_text('whatever\n"Soft,\nwarm"\nNeat\n')
    assert new_texts(one) == [NewText(1, "Soft, warm"), NewText(2, "Neat")]
    two = tmp_path / "two.jsonl"
    two.write_text('{"id": 1, "review": "Soft"}\nno JSON\n{"id": 2, "body": "Neat"}\n')
    assert [text for _, text in new_texts(two)] == ["Soft", "", ""]
    assert [text for _, text in new_texts(two, "body")] == ["", "", "Neat"]
    with pytest.raises(LabelledTextError, match="no column title; allowed: --column"):
        new_texts(two, "title")


@pytest.mark.slow
class TestWithAModel:
    """A tiny random model says anything, but always the same."""

    @pytest.fixture(scope="class")
    def classifier(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Classifier]:
        folder = tmp_path_factory.mktemp("model")
        tokenizer = llama_tokenizer()
        save_tiny_model(folder, tokenizer, tie_word_embeddings=False, initializer_range=0.5)
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(sys.modules, "vllm", None)  # as where it is not installed
            with open_engine(
                folder, None, style="plain", max_length=128, say=lambda _: None
            ) as engine:
                encoder = Encoder(tokenizer, "plain")
                yield Classifier(engine, encoder, Labels("bad", "good"), 2.0, 128)

    def test_every_text_has_a_row(self, classifier: Classifier, tmp_path: Path) -> None:
        assert label_file(classifier, TEXTS, tmp_path / "out.csv") == 0
        with (tmp_path / "out.csv").open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        assert [row["text"] for row in rows] == [*(one.text for one in TEXTS[:4]), "'=Neat"]
        assert [bool(row["label"]) for row in rows] == [True, False, True, False, True]
        assert all(0.5 <= float(row["probability"]) <= 1 for row in rows if row["label"])
        label_file(classifier, TEXTS, tmp_path / "out.jsonl")
        lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
        assert [line["label"] or "" for line in lines] == [row["label"] for row in rows]

    @pytest.mark.parametrize("suffix", ["csv", "jsonl"])
    def test_what_was_broken_off_ends_as_if_it_had_not_been(
        self,
        classifier: Classifier,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        suffix: str,
    ) -> None:
        monkeypatch.setattr(labelling, "BATCH", 2)
        whole, cut = tmp_path / f"whole.{suffix}", tmp_path / f"cut.{suffix}"
        label_file(classifier, TEXTS, whole)
        content = whole.read_bytes()
        for length in range(0, len(content), 37):
            cut.write_bytes(content[:length])
            label_file(classifier, TEXTS, cut, resume=True)
            assert cut.read_bytes() == content

    def test_other_files_are_left_alone(self, classifier: Classifier, tmp_path: Path) -> None:
        output = tmp_path / "out.csv"
        label_file(classifier, TEXTS, output)
        before = output.read_bytes()
        with pytest.raises(ValueError, match="is there already; allowed: --resume"):
            label_file(classifier, TEXTS, output)
        with pytest.raises(ValueError, match="is of other texts"):
            label_file(classifier, TEXTS[1:], output, resume=True)
        with pytest.raises(ValueError, match=r"allowed: a file ending in \.csv or \.jsonl"):
            label_file(classifier, TEXTS, tmp_path / "out.parquet")
        assert output.read_bytes() == before
