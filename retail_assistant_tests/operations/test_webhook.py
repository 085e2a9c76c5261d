"""Alerts on their way to a real HTTP server."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retail_assistant.operations import webhook as module
from retail_assistant.operations.alerts import Alert, check_failed, public_line, run_failed
from retail_assistant.operations.webhook import Bookmark, DeliveryError, sender
from retail_assistant.settings import Settings, SettingsError, get_settings
from retail_assistant_tests.operations.conftest import MakeSettings
from retail_assistant_tests.operations.webhook_server import SECRET, Webhook

ALERT = Alert(kind="run_failed", title="adapter <mine> & yours", facts={"rows": 12_000}, link="l")


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.01)


@pytest.mark.fault(
    "The webhook for alerts answers 503 or 429",
    "The alert is sent again and arrives once",
)
def test_a_webhook_that_is_away_for_a_moment_gets_it_once(
    webhook: Webhook, settings_of: MakeSettings
) -> None:
    webhook.answers = [503, 429]
    send = sender(settings_of(alert_webhook=webhook.url, alert_format="json"))
    assert send is not None
    send(ALERT)
    assert webhook.asked == 3
    assert webhook.bodies == [ALERT.as_json()]


@pytest.mark.parametrize(
    ("status", "asked"), [(404, 1), (302, 1), (307, 1), (500, module.ATTEMPTS)]
)
@pytest.mark.fault(
    "An endpoint, a database, a webhook or MLflow refuses, and its error repeats the secret",
    "It is in no error text, log, artefact, MLflow entry or alert",
)
def test_what_does_not_arrive_is_told_without_the_address(
    webhook: Webhook, settings_of: MakeSettings, status: int, asked: int
) -> None:
    webhook.answers = [status] * asked
    send = sender(settings_of(alert_webhook=webhook.url))
    assert send is not None
    with pytest.raises(DeliveryError, match=str(status)) as failed:
        send(ALERT)
    assert (webhook.asked, webhook.elsewhere) == (asked, 0)
    assert SECRET not in str(failed.value)


@pytest.mark.fault(
    "An endpoint, a database, a webhook or MLflow refuses, and its error repeats the secret",
    "It is in no error text, log, artefact, MLflow entry or alert",
)
def test_nobody_there_is_told_without_the_address(settings_of: MakeSettings) -> None:
    send = sender(settings_of(alert_webhook=f"http://127.0.0.1:9/{SECRET}"))
    assert send is not None
    with pytest.raises(DeliveryError, match="cannot be reached") as failed:
        send(ALERT)
    assert SECRET not in str(failed.value)
    assert failed.value.__cause__ is None


@pytest.mark.fault(
    "HTML, scripts, Markdown or templates stand in catalog, model or shopper text",
    "Page, reports, sheets, cards and the Dagster UI show them as text; nothing is run or loaded",
)
def test_slack_gets_text_that_it_cannot_take_for_markup(
    webhook: Webhook, settings_of: MakeSettings
) -> None:
    send = sender(settings_of(alert_webhook=webhook.url))
    assert send is not None
    send(ALERT)
    assert webhook.bodies == [
        {"text": "*adapter &lt;mine&gt; &amp; yours*\nrows: 12,000\n<l|Open>"}
    ]


def test_never_more_than_so_many_an_hour(webhook: Webhook, settings_of: MakeSettings) -> None:
    settings = settings_of(alert_webhook=webhook.url, alert_format="json", alerts_per_hour=3)
    send, box = sender(settings), Bookmark.read(None, now=0.0)
    assert send is not None
    for second in range(10):
        box.tell(ALERT, send, settings, now=float(second))
    assert len(webhook.bodies) == 3
    assert box.held == {"run_failed": 7}
    # An hour after the first there is room for one: it tells of all that were held back.
    box = Bookmark.read(box.model_dump_json(), now=5.0)
    box.tell_held(send, settings, now=3600.5)
    assert webhook.bodies[-1]["kind"] == "held_back"
    assert webhook.bodies[-1]["facts"] == {"run_failed": 7}
    assert (box.held, len(box.sent)) == ({}, 3)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/x",
        "http://169.254.169.254/computeMetadata/v1",
        "http://localhost.example.com/x",
        "ftp://localhost/x",
        "file:///etc/passwd",
        "https://",
    ],
)
@pytest.mark.usefixtures("fresh_settings")
@pytest.mark.fault(
    "A secret stands where everybody reads: an address in the settings",
    "It is refused, and the error does not hold it",
)
def test_only_https_and_this_machine_are_allowed(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("RETAIL_ALERT_WEBHOOK", f"{url}?{SECRET}")
    with pytest.raises(SettingsError, match="RETAIL_ALERT_WEBHOOK") as refused:
        get_settings()
    assert SECRET not in str(refused.value)


def test_the_address_is_not_shown() -> None:
    settings = Settings(alert_webhook=f"https://hooks.slack.com/{SECRET}")
    assert SECRET not in f"{settings!r} {settings} {settings.alert_webhook}"


def test_no_quoted_text_leaves() -> None:
    failed = run_failed(
        "prepare", None, "products", "ValueError", "no colour 'Red Kurta'", "l", again=False
    )
    assert failed.facts["error"] == "ValueError"
    failed = run_failed(
        "train",
        "mine",
        "adapter",
        "LaunchError",
        "adapter: 'Red Kurta' password=hunter22\nx",
        "l",
        again=False,
    )
    assert failed.facts["error"] == "LaunchError: adapter: '…' password=***"
    found = check_failed("products", None, "no_loss", "ERROR", "Red Kurta vanished", "l")
    assert "Red Kurta" not in str(found.as_json())


@given(st.text(max_size=400))
def test_a_line_is_one_short_line(text: str) -> None:
    line = public_line(text)
    assert len(line) <= 240
    assert len(line.splitlines()) <= 1
