"""Secrets: none that has a known name, place or shape is left; ordinary words are."""

import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retail_assistant.telemetry.redaction import forget_own_secrets, redacted, redacted_value

SECRET = "s3cr3t-" + "x" * 24
NAMES = ("password", "api_key", "RETAIL_JUDGE_API_KEY", "hf_token", "client_secret", "DB_PASSWORD")


@pytest.mark.parametrize(
    "text",
    [
        f"postgresql://dagster:{SECRET}@db.internal:5432/dagster",
        f"fetching https://{SECRET}@example.com/x",
        f"Authorization: Bearer {SECRET}",
        f"authorization: Basic {SECRET}==",
        f"{{'Authorization': 'Bearer {SECRET}'}}",
        f"curl -H 'X-Api-Key: {SECRET}'",
        f"GET /?api_key={SECRET}&page=2",
        f'{{"access_token": "{SECRET}", "page": 2}}',
        f"mlflow --backend-password {SECRET} --workers 1",
        f"password: {SECRET}",
        f"Cookie: session={SECRET}; theme=dark",
        f"https://hooks.slack.com/services/T0/B0/{SECRET}",
        f"https://HOOKS.slack.com/services/T0/B0/{SECRET}",
        f"key sk-{SECRET}",
        f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}\n"  # pragma: allowlist secret
        "-----END RSA PRIVATE KEY-----",
        f"PASSWORD='{SECRET} with a space'",
    ],
)
@pytest.mark.fault(
    "An endpoint, a database, a webhook or MLflow refuses, and its error repeats the secret",
    "It is in no error text, log, artefact, MLflow entry or alert",
)
def test_what_is_known_for_a_secret_is_gone(text: str) -> None:
    assert SECRET not in redacted(text)
    assert "***" in redacted(text)


@pytest.mark.parametrize(
    "text",
    [
        "adapter 63af4ca7edf96f8547e0: 20,300 tokens, tokens_per_second=46.2",
        "max_tokens=96 prompt_tokens=12 completion_tokens: 3",
        "the token: first of the sentence",
        "https://example.com/a@b?q=1 gs://bucket/prefix/artefacts/adapter",
        "TOKENIZERS_PARALLELISM=false",
        "time to first token 0.2 s",
        "12:00:01 retail_assistant.access: req-1 POST /v1/chat/completions 200 12ms address ::1",
        "keys.json cannot be read; secretary=Anna",
    ],
)
def test_ordinary_words_stay(text: str) -> None:
    assert redacted(text) == text


@given(
    name=st.sampled_from(NAMES),
    secret=st.text(string.ascii_letters + string.digits + "_-.~", min_size=8, max_size=60),
    before=st.text(string.ascii_letters + " ", max_size=10),
    after=st.text(string.ascii_letters + " ", max_size=10),
)
def test_whatever_a_secret_is_called_it_is_gone(
    name: str, secret: str, before: str, after: str
) -> None:
    value = f"{secret}{secret}"
    for text in (f"{before} {name}={value} {after}", json.dumps({name: value, "b": before})):
        assert value not in redacted(text)
    assert redacted_value({name: value, "list": [f"{name}={value}"]})[name] == "***"


def test_values_of_the_own_environment_are_known_by_themselves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DAGSTER_PG_PASSWORD", "correct horse battery")
    monkeypatch.setenv("SOME_KEY_PATH", "/etc/keys/one")
    forget_own_secrets()
    try:
        assert redacted("it said correct horse battery!") == "it said ***!"
        assert redacted("read /etc/keys/one") == "read /etc/keys/one"
    finally:
        monkeypatch.undo()
        forget_own_secrets()
