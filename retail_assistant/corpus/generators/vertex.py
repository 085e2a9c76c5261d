"""Llama on Vertex AI: its OpenAI-compatible endpoint, with Google's own credentials.

Credentials are Google's application default credentials: `GOOGLE_APPLICATION_CREDENTIALS`, those of
gcloud, or the service account of the machine.
Source of the address: Vertex AI documentation, "Call MaaS APIs for open models".
"""

import asyncio

from retail_assistant.corpus.generators.endpoint import Endpoint
from retail_assistant.corpus.generators.model import GenerationError
from retail_assistant.corpus.generators.policy import GenerationPolicy, GeneratorChoice

SCOPE = "https://www.googleapis.com/auth/cloud-platform"


def vertex_url(project: str, location: str) -> str:
    """The endpoint of a project and location, up to and without /chat/completions."""
    host = "aiplatform.googleapis.com"
    if location != "global":
        host = f"{location}-{host}"
    return f"https://{host}/v1/projects/{project}/locations/{location}/endpoints/openapi"


def vertex_endpoint(choice: GeneratorChoice, policy: GenerationPolicy) -> Endpoint:
    """The endpoint with a token that is renewed before it expires.

    Raises:
        GenerationError: there are no credentials, or nothing says which project.
    """
    token = GoogleToken()
    project = choice.project or token.project
    if choice.url is None and not project:
        raise GenerationError("the Google credentials name no project; set the generator's project")
    url = choice.url or vertex_url(str(project), choice.location)
    return Endpoint(choice, policy, url=url, token=token)


class GoogleToken:
    """The bearer token of this moment; calling it renews one that is about to expire.

    `project` is what the credentials name, or None.
    """

    def __init__(self) -> None:
        import google.auth
        from google.auth.exceptions import GoogleAuthError

        try:
            self._credentials, self.project = google.auth.default(scopes=[SCOPE])
        except (GoogleAuthError, OSError, ValueError) as error:
            raise GenerationError(f"no Google credentials: {_first_line(error)}") from None
        self._renewing = asyncio.Lock()

    async def __call__(self) -> str:
        """The token.

        Raises:
            GenerationError: it expired and Google gives no other.
        """
        async with self._renewing:
            if not self._credentials.valid:
                await self._renew()
        return str(self._credentials.token)

    async def _renew(self) -> None:
        from google.auth.exceptions import GoogleAuthError
        from google.auth.transport.requests import Request

        try:
            await asyncio.to_thread(self._credentials.refresh, Request())
        except GoogleAuthError as error:
            raise GenerationError(f"Google gives no token: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0][:300]
