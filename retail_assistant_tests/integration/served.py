"""`retail-assistant serve` in a process of its own."""

import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai  # noqa: TID253 (no code location is loaded here)
import psutil

from retail_assistant.launch.ray_head import free_port
from retail_assistant.serving.model_servers.server import GUARD
from retail_assistant_tests.families import family_of
from retail_assistant_tests.integration.line import BIN

SECONDS_TO_START = 240.0
SECONDS = 60.0


@dataclass(frozen=True)
class Served:
    """A server that is up."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0)

    def ready(self) -> httpx.Response:
        return httpx.get(f"{self.url}/ready", timeout=SECONDS)

    def wait_until_ready(self, seconds: float = SECONDS_TO_START) -> None:
        deadline = time.monotonic() + seconds
        while True:
            try:
                if self.ready().status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.5)

    def writers(self) -> list[psutil.Process]:
        """vLLM's processes; not the guard beside them, whose command line names vLLM, too."""
        family = family_of(psutil.Process(self.process.pid))
        return [
            one for one, words in family if "vllm" in " ".join(words).lower() and GUARD not in words
        ]


@contextmanager
def serving(environment: Mapping[str, str], log: Path) -> Iterator[Served]:
    """`retail-assistant serve` with these settings; it need not be ready yet."""
    port = free_port()
    with log.open("wb") as file:
        process = subprocess.Popen(
            [BIN / "retail-assistant", "serve", "--port", str(port)],
            env={**environment, "RETAIL_SERVING_WATCH_SECONDS": "0.5"},
            cwd=log.parent,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        yield Served(f"http://127.0.0.1:{port}", process, log)
    finally:
        process.kill()
        process.wait()


def asked(served: Served, *texts: str) -> tuple[str, dict[str, Any]]:
    """A conversation's last answer, and what it was made from."""
    messages = [{"role": "user", "content": text} for text in texts]
    answer = served.client.chat.completions.create(model="retail-assistant", messages=messages)  # type: ignore[arg-type]
    extension: dict[str, Any] = (answer.model_extra or {})["retail_assistant"]
    return answer.choices[0].message.content or "", extension
