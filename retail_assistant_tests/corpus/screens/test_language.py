"""Texts in other languages are told from English ones, whatever odd words a catalog has."""

import pytest

from retail_assistant.corpus.reading.names import Question, read_names
from retail_assistant.corpus.screens.language import other_language


def _foreign(catalog, text):
    named = read_names(text, Question(text, "attribute"), catalog.facts)
    return other_language(named, catalog, 0.5)


@pytest.mark.parametrize(
    "text",
    [
        "Aus welchem Material ist Quill Women's Tunic?",
        "De quoi est fait Quill Women's Tunic ?",
        "¿De qué está hecho Quill Women's Tunic?",
        "Di cosa è fatto Quill Women's Tunic?",
        "Quill Women's Tunic किससे बना है?",
        "Quill Women's Tunic kis cheez se bana hai?",
        "Hamare catalogue ke hisaab se yeh Rayon hai.",
        "Из чего сделано платье?",
    ],
)
def test_other_languages_are_found(small_text, text):
    assert _foreign(small_text, text)


@pytest.mark.parametrize(
    "text",
    [
        "Quill Women's Tunic: what is its fabric?",
        "Rayon.",
        "Quill Women's Tunic - fabric?",
        "It's Rayon, Boat Neck, Cotton Lycra.",
        "Is the palazzo good for Diwali and the sangeet?",
        "",
    ],
)
def test_english_passes(small_text, text):
    assert _foreign(small_text, text) == []
