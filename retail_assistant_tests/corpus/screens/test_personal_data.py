"""People's data is found; a catalog's numbers and names are nobody's."""

import re
import socket
import subprocess
import sys
from typing import get_args

import pytest

from retail_assistant.corpus.screens.personal_data import personal_data_in, persons_in
from retail_assistant.corpus.screens.policy import PersonalDataKind

KINDS = frozenset(get_args(PersonalDataKind))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Write to jo.doe@shop.example", "EMAIL_ADDRESS"),
        ("Reach me: jo.doe (at) shop (dot) example", "EMAIL_ADDRESS"),
        ("jo [at] shop.example", "EMAIL_ADDRESS"),
        ("Call +91 98765 43210.", "PHONE_NUMBER"),
        ("Call (212) 555-0187.", "PHONE_NUMBER"),
        ("Pay with 4111 1111 1111 1111", "CREDIT_CARD"),
        ("Pay to DE89 3704 0044 0532 0130 00", "IBAN_CODE"),
        ("Logged in from 203.0.113.77", "IP_ADDRESS"),
        ("Logged in from 2001:db8:85a3::8a2e:370:7334", "IP_ADDRESS"),
        ("SSN 536-22-8726", "US_SSN"),
        ("Aadhaar 4991 1866 5246", "IN_AADHAAR"),
    ],
)
def test_personal_data_is_found(text, kind):
    assert kind in personal_data_in(text, KINDS)
    assert kind not in personal_data_in(text, KINDS - {kind})


@pytest.mark.parametrize(
    "text",
    [
        "The length is 46 inch, 29 inch, 30 cm, 32 cm.",
        "25.203125 inch of 16-725-NAVY",
        "Pack of 3 @ 499",
        "Rs. 1,299 instead of Rs. 2,499, style GRI-2542",
        "Chest 96.5, waist 81.25, sizes 38/40/42/44",
    ],
)
def test_numbers_of_a_catalog_are_no_personal_data(text):
    assert personal_data_in(text, KINDS) == []


@pytest.mark.parametrize(
    "text",
    [
        "My name is Priya Sharma, by the way.",
        "Ask for Daniel Weber at the counter.",
        "It is a gift for my colleague Anna Kowalski.",
        "Rahul Verma recommended it to me.",
    ],
)
def test_full_names_are_found(text):
    assert len(persons_in(text, frozenset())) == 1
    words = re.findall(r"\w+", text.lower())
    assert persons_in(text, frozenset(words)) == []


@pytest.mark.parametrize(
    "text",
    [
        "The fabric of it is Georgette.",
        "Can I wear it to a Bollywood party, or for Diwali?",
        "In India we say Kurti, is it one?",
        "Hi There, is it Navy Blue or Royal Blue? I want Size XL.",
        "Dear Sir or Madam, is it like my Levi's?",
        "Would it go with my Banarasi Dupatta?",
    ],
)
def test_words_of_shoppers_are_nobody(text):
    assert persons_in(text, frozenset()) == []


def test_looking_for_personal_data_stays_offline(monkeypatch):
    def refuse(*_: object) -> None:
        raise AssertionError("a screen must not use the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert personal_data_in("Write to jo.doe@shop.example", KINDS) == ["EMAIL_ADDRESS"]
    assert persons_in("My name is Priya Sharma.", frozenset()) == ["Priya Sharma"]


def test_texts_of_a_catalog_need_none_of_the_heavy_libraries():
    code = (
        "import sys\n"
        "from retail_assistant.corpus.screens.personal_data import personal_data_in, persons_in\n"
        "text = 'The fabric of Zed Top (item 00cc67fc) is 60% Rayon, 25.203125 inch, Rs. 1,299.'\n"
        "known = frozenset('zed top rayon'.split())\n"
        "assert not personal_data_in(text, {'PHONE_NUMBER'})\n"
        "assert not persons_in(text, known)\n"
        "print([name for name in ('presidio_analyzer', 'spacy') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
