"""A webhook: a real HTTP server in a thread of the test's process."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from retail_assistant_tests.http_server import QuietHandler, http_server

SECRET = "T0-B0-s3cr3tpath"


class Webhook:
    """What it got, and what it answers: the statuses in turn, then 200."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.bodies: list[dict[str, Any]] = []
        self.answers: list[int] = []
        self.asked = 0
        self.elsewhere = 0

    @property
    def kinds(self) -> list[str]:
        return [body["kind"] for body in self.bodies]


@contextmanager
def running_webhook() -> Iterator[Webhook]:
    """A webhook at a free port of this machine."""

    class Handler(QuietHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path != f"/services/{SECRET}":
                webhook.elsewhere += 1
                self._answer(200)
                return
            webhook.asked += 1
            status = webhook.answers.pop(0) if webhook.answers else 200
            if status == 200:
                webhook.bodies.append(body)
            self._answer(status)

        def _answer(self, status: int) -> None:
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

    with http_server(Handler) as address:
        webhook = Webhook(f"{address}/services/{SECRET}")
        yield webhook
