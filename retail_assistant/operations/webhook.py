"""Alerts on their way: sent to a webhook, again where it is away, and never too many.

The address is a secret (who has it can write there), so no error repeats it. It is https, or on
this machine (the settings see to that), and redirects are not followed: a webhook that is made to
lead elsewhere would let others choose what this machine asks.
"""

import time
from collections.abc import Callable
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, ValidationError
from tenacity import (
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_exponential_jitter,
)

from retail_assistant.operations.alerts import Alert, held_back
from retail_assistant.settings import Settings

SECONDS_TO_ANSWER = 5.0
ATTEMPTS = 4
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 4.0
SECONDS_AN_HOUR = 3600.0
_WORTH_ANOTHER_TRY = frozenset({408, 425, 429, 500, 502, 503, 504})

Send = Callable[[Alert], None]


class DeliveryError(RuntimeError):
    """An alert that did not arrive; says why, and not where to."""


class _AwayError(DeliveryError):
    """It may arrive if it is sent again."""


def sender(settings: Settings) -> Send | None:
    """What sends alerts, as the settings say; None: they are sent nowhere."""
    if settings.alert_webhook is None:
        return None
    url = settings.alert_webhook.get_secret_value()

    def send(alert: Alert) -> None:
        """Send it; several times, with growing pauses, while the webhook is away.

        Raises:
            DeliveryError: it did not arrive.
        """
        tries = Retrying(
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_exponential_jitter(
                multiplier=FIRST_PAUSE, max=LONGEST_PAUSE, jitter=FIRST_PAUSE
            ),
            retry=retry_if_exception_type(_AwayError),
            reraise=True,
        )
        tries(_post, url, alert.body(settings.alert_format))

    return send


def _post(url: str, body: dict) -> None:
    import httpx2

    # Nothing between this process and its own machine; a company's proxy leads to all else.
    own = urlsplit(url).scheme == "http"
    try:
        with httpx2.Client(
            timeout=SECONDS_TO_ANSWER, follow_redirects=False, trust_env=not own
        ) as client:
            answer = client.post(url, json=body)
    except httpx2.HTTPError as error:
        raise _AwayError(f"the webhook cannot be reached ({type(error).__name__})") from None
    if answer.status_code in _WORTH_ANOTHER_TRY:
        raise _AwayError(f"the webhook answered with status {answer.status_code}")
    if not answer.is_success:
        kind = "a redirect, which is not followed: " if answer.is_redirect else ""
        raise DeliveryError(f"the webhook answered with {kind}status {answer.status_code}")


class Outbox(BaseModel):
    """What was sent of late, and what could not be: it goes from one look to the next."""

    model_config = ConfigDict(extra="ignore")

    sent: list[float] = []
    """When, of the last hour (seconds since 1970)."""

    held: dict[str, int] = {}
    """Alerts that were too many, by their kind."""

    def tell(self, alert: Alert, send: Send, settings: Settings, now: float | None = None) -> None:
        """Send an alert, or count it where there were too many in the last hour.

        Raises:
            DeliveryError: it did not arrive, and is not counted.
        """
        now = time.time() if now is None else now
        self.tell_held(send, settings, now)
        if self._has_room(settings, now):
            send(alert)
            self.sent.append(now)
        else:
            self.held[alert.kind] = self.held.get(alert.kind, 0) + 1

    def tell_held(self, send: Send, settings: Settings, now: float | None = None) -> None:
        """Tell how many were held back, once there is room for it.

        Raises:
            DeliveryError: it did not arrive.
        """
        now = time.time() if now is None else now
        if self.held and self._has_room(settings, now):
            send(held_back(self.held, settings.alerts_per_hour, settings))
            self.sent.append(now)
            self.held = {}

    def _has_room(self, settings: Settings, now: float) -> bool:
        self.sent = [one for one in self.sent if one > now - SECONDS_AN_HOUR]
        return len(self.sent) < settings.alerts_per_hour


class Bookmark(Outbox):
    """How far a sensor has told what happened."""

    began: float
    """When this began (seconds since 1970): nothing that happened before is told."""

    since: float
    """The end of the last run that was told of; earlier ones were, but for some just before."""

    runs: list[str] = []
    """Runs since then, and shortly before, that were told of."""

    halfway: dict[str, int] = {}
    """Of a run so many alerts were told, and the next one did not arrive."""

    costed: str = ""
    """The month whose costs were last looked at."""

    budget: str = ""
    """The month whose budget was told to be reached."""

    @classmethod
    def read(cls, cursor: str | None, now: float) -> "Bookmark":
        """From a sensor's cursor; without one what happens from now on is told."""
        if cursor:
            try:
                return cls.model_validate_json(cursor)
            except ValidationError:
                # Of another version: to begin anew may leave something out, and repeats nothing.
                pass
        return cls(began=now, since=now)
