import pytest
from pydantic import ValidationError

from retail_assistant.corpus.generators.policy import (
    VERTEX_MODEL,
    GenerationPolicy,
    GeneratorChoice,
)


@pytest.mark.parametrize(
    "url",
    [
        "https://name:secret@host/v1",
        "https://host/v1?key=secret",
        "https://host/v1#secret",
        "ftp://host/v1",
        "host:8000/v1",
        "",
    ],
)
@pytest.mark.fault(
    "A secret stands where everybody reads: an address in the settings",
    "It is refused, and the error does not hold it",
)
def test_an_address_that_may_hold_a_secret_is_refused_without_being_named(url: str) -> None:
    with pytest.raises(ValidationError) as refused:
        GeneratorChoice(kind="openai", model="m", url=url)
    told = [error["msg"] for error in refused.value.errors()]
    assert len(told) == 1
    assert "http(s)://host" in told[0]
    assert "secret" not in told[0]


def test_an_address_is_one_without_its_last_slash() -> None:
    choice = GeneratorChoice(kind="openai", model="m", url="http://127.0.0.1:8000/v1/")
    assert choice.url == "http://127.0.0.1:8000/v1"


def test_an_endpoint_needs_a_model_and_vertex_has_one() -> None:
    with pytest.raises(ValidationError, match="name of a model"):
        GeneratorChoice(kind="openai")
    assert GeneratorChoice(kind="vertex").model_name == VERTEX_MODEL
    assert GeneratorChoice(kind="vertex", model="meta/other").model_name == "meta/other"
    assert GeneratorChoice().model_name == ""


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_cost": 1.0}, "prompt_price"),
        ({"request_fields": {"n": 3}}, "not allowed: n"),
        ({"request_fields": {"stream": True, "messages": []}}, "not allowed: messages, stream"),
        ({"concurrency": 0}, "greater than or equal to 1"),
        ({"output": "xml"}, "json_schema"),
        ({"unknown": 1}, "Extra inputs"),
    ],
)
def test_a_policy_that_cannot_work_is_refused(fields: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message.replace("(", r"\(")):
        GenerationPolicy(**fields)


def test_cost_is_by_a_million_tokens() -> None:
    policy = GenerationPolicy(prompt_price=2.0, completion_price=8.0)
    assert policy.cost(500_000, 250_000) == pytest.approx(3.0)


def test_only_what_a_response_depends_on_is_its_sampling() -> None:
    usual = GenerationPolicy()
    faster = GenerationPolicy(concurrency=64, timeout=5, retries=1, prompt_price=3.0)
    assert faster.sampling == usual.sampling
    assert GenerationPolicy(temperature=0.1).sampling != usual.sampling
    assert GenerationPolicy(request_fields={"top_k": 5}).sampling != usual.sampling


def test_the_longest_response_is_what_any_field_allows() -> None:
    assert GenerationPolicy(max_tokens=100).longest_response == 100
    given = {"max_tokens": None, "max_completion_tokens": 900}
    assert GenerationPolicy(max_tokens=100, request_fields=given).longest_response == 900
