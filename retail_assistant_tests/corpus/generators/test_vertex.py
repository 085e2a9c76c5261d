"""Llama on Vertex AI, with a real Google credential whose token endpoint is a local server."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from retail_assistant.corpus.generate import open_model
from retail_assistant.corpus.generators.model import GenerationError
from retail_assistant.corpus.generators.policy import (
    VERTEX_MODEL,
    GenerationPolicy,
    GeneratorChoice,
)
from retail_assistant.corpus.generators.vertex import vertex_endpoint, vertex_url
from retail_assistant.corpus.generators.writer import ModelGenerator
from retail_assistant.objects import ObjectStore
from retail_assistant_tests.chat_server import ChatServer
from retail_assistant_tests.corpus.generators.conftest import MakeBrief

CREDENTIALS = "GOOGLE_APPLICATION_CREDENTIALS"
# google-auth takes a token for expired this long before it is.
EARLY_SECONDS = 225


class TokenServer:
    """Google's token endpoint: gives numbered tokens for signed assertions."""

    def __init__(self, seconds: int) -> None:
        self.given: list[str] = []
        self.assertions: list[str] = []
        self.refuses = False
        tokens = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                sent = self.rfile.read(int(self.headers["Content-Length"])).decode()
                tokens.assertions.append(parse_qs(sent)["assertion"][0])
                tokens.given.append(f"token-{len(tokens.given) + 1}")
                answer = {"access_token": tokens.given[-1], "expires_in": seconds}
                status = 200
                if tokens.refuses:
                    status, answer = 400, {"error": "invalid_grant", "error_description": "gone"}
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/token"


@pytest.fixture
def tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TokenServer]:
    """Application default credentials whose tokens are valid for one second."""
    tokens = TokenServer(EARLY_SECONDS + 1)
    threading.Thread(target=tokens.server.serve_forever, daemon=True).start()
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    account = {
        "type": "service_account",
        "project_id": "my-project",
        "private_key_id": "1",
        "private_key": pem.decode(),
        "client_email": "writer@my-project.example",
        "token_uri": tokens.url,
    }
    path = tmp_path / "account.json"
    path.write_text(json.dumps(account))
    monkeypatch.setenv(CREDENTIALS, str(path))
    yield tokens
    tokens.server.shutdown()
    tokens.server.server_close()


def generator(server: ChatServer, folder: Path, **policy: object) -> ModelGenerator:
    choice = GeneratorChoice(kind="vertex", url=server.url)
    given = GenerationPolicy.model_validate({"concurrency": 4, **policy})
    opened = partial(open_model, choice, given)
    return ModelGenerator(choice, given, opened, ObjectStore(str(folder)), seed=1)


def test_a_token_that_expires_during_the_run_is_renewed(
    tokens: TokenServer, brief: MakeBrief, tmp_path: Path
) -> None:
    briefs = [brief(f"Top {number}") for number in range(24)]
    started = time.monotonic()
    with ChatServer(latency=0.4).running() as server:
        written = generator(server, tmp_path / "responses").write(briefs)
    seconds = time.monotonic() - started
    assert len(written.dialogues) == 72
    assert server.bodies[0]["model"] == VERTEX_MODEL
    assert {dialogue.generator for dialogue in written.dialogues} == {"vertex"}
    # 6 rounds of 0.4 s: one token at the start, and another once a second.
    assert 2 <= len(tokens.given) <= 1 + seconds
    assert list(dict.fromkeys(server.tokens)) == [f"Bearer {token}" for token in tokens.given]


def test_a_retry_has_a_token_of_its_own(
    tokens: TokenServer, brief: MakeBrief, tmp_path: Path
) -> None:
    def fault(_subject: str, number: int) -> str:
        return "http 429 1.5" if number == 1 else ""

    with ChatServer(fault=fault).running() as server:
        generator(server, tmp_path / "responses").write([brief()])
    assert server.tokens == ["Bearer token-1", "Bearer token-2"]


def test_credentials_that_are_refused_end_the_run(
    tokens: TokenServer, brief: MakeBrief, tmp_path: Path
) -> None:
    tokens.refuses = True
    with (
        ChatServer().running() as server,
        pytest.raises(GenerationError, match=r"Google gives no token.*invalid_grant"),
    ):
        generator(server, tmp_path / "responses").write([brief(str(n)) for n in range(50)])
    assert server.requests.total() == 0
    assert len(tokens.given) <= 4


def test_no_credentials_are_said(
    brief: MakeBrief, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CREDENTIALS, str(tmp_path / "absent.json"))
    with (
        ChatServer().running() as server,
        pytest.raises(GenerationError, match="no Google credentials"),
    ):
        generator(server, tmp_path / "responses").write([brief()])


@pytest.mark.usefixtures("tokens")
def test_the_address_is_that_of_the_project_and_location() -> None:
    whole = (
        "https://europe-west4-aiplatform.googleapis.com/v1/projects/p/locations/europe-west4"
        "/endpoints/openapi"
    )
    assert vertex_url("p", "europe-west4") == whole
    assert vertex_url("p", "global").startswith("https://aiplatform.googleapis.com/v1/projects/p")

    async def address(choice: GeneratorChoice) -> str:
        async with vertex_endpoint(choice, GenerationPolicy()) as endpoint:
            return endpoint.url

    assert "/projects/my-project/locations/us-central1/" in asyncio.run(
        address(GeneratorChoice(kind="vertex"))
    )
    named = GeneratorChoice(kind="vertex", project="other", location="global")
    assert asyncio.run(address(named)) == vertex_url("other", "global")
