"""How strict the screens are: the section `screens` of the corpus profile."""

from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

PersonalDataKind = Literal[
    "EMAIL_ADDRESS",
    "PHONE_NUMBER",
    "CREDIT_CARD",
    "IBAN_CODE",
    "IP_ADDRESS",
    "US_SSN",
    "IN_AADHAAR",
    "PERSON",
]


class ScreenPolicy(BaseModel):
    """How strict the screens are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_question_characters: int = Field(400, ge=1, description="longer questions are rejected")
    max_answer_characters: int = Field(1_200, ge=1, description="longer answers are rejected")
    language: Literal["en"] | None = Field(
        "en", description="the language of every text; null: any, and nobody looks"
    )
    min_language_share: float = Field(
        0.5,
        gt=0,
        le=1,
        description="least share of words, besides the catalog's own, that the language knows",
    )
    personal_data: tuple[PersonalDataKind, ...] = Field(
        get_args(PersonalDataKind), description="kinds of personal data that are looked for"
    )
    near_duplicate: float = Field(
        0.8,
        gt=0,
        le=1,
        description="least Jaccard similarity of the words of two questions that ask the same",
    )
    allowed_words: tuple[str, ...] = Field(
        (),
        description="words of this shop, in lower case, that are no offence and nobody's name",
    )
