"""The model that the settings ask for: its server started, or reached, until it writes."""

import asyncio
import itertools
import os
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from retail_assistant.corpus.encoding import TEMPLATE_ARGUMENTS, Encoder
from retail_assistant.corpus.rendering import Message
from retail_assistant.evaluation.adapter_weights import adapted_modules, rank_step
from retail_assistant.evaluation.registry import Champion
from retail_assistant.launch.local import run_local
from retail_assistant.launch.spec import ArtefactRef
from retail_assistant.serving.model_servers.commands import (
    MOST_ADAPTERS,
    given_command,
    transformers_command,
    vllm_command,
)
from retail_assistant.serving.model_servers.endpoint import (
    ChatWriter,
    Connection,
    Endpoint,
    TokenWriter,
    Writer,
)
from retail_assistant.serving.model_servers.server import (
    PROBE,
    Care,
    Command,
    ModelServer,
    ModelServerError,
)
from retail_assistant.serving.options import ServingSettings
from retail_assistant.serving.served import (
    ServedModel,
    merge_spec,
    merged_folder,
    own_precision,
    served_model,
)
from retail_assistant.serving.turns import ModelAwayError, Written
from retail_assistant.settings import Settings

Choose = Callable[[Connection], Awaitable[str]]
"""Which of a server's models is asked."""

MODELS_ROUTE = "/v1/models"
HEALTH = {
    "vllm": "/health",
    "transformers": "/health",
    "command": MODELS_ROUTE,
    "url": MODELS_ROUTE,
    # https://docs.nvidia.com/nim/large-language-models/latest/reference/api-reference.html
    "nim": "/v1/health/ready",
}
CACHE = {"vllm": "vllm:kv_cache_usage_perc"}
"""The metric that tells how full the key-value cache is, 0 to 1."""


@dataclass(frozen=True)
class OpenModel:
    """A `WritingModel` of a server that is kept running.

    champion: whose answers these are; None: a server's own model, of which nothing is known.
    """

    server: ModelServer
    name: str
    champion: Champion | None

    @property
    def ready(self) -> bool:
        """Whether it answers, as far as is known."""
        return self.server.ready

    @property
    def why(self) -> str | None:
        """Why it does not, for who runs it."""
        return self.server.why

    async def stream(
        self, prompt: Sequence[Message], max_tokens: int
    ) -> AsyncGenerator[Written, None]:
        """As `WritingModel.stream`."""
        async with aclosing(self.server.stream(self.name, prompt, max_tokens)) as pieces:
            async for piece in pieces:
                yield piece


class Variants:
    """Opens and closes models as the settings say."""

    def __init__(self, settings: Settings, serving: ServingSettings, care: Care | None = None):
        self._settings, self._serving = settings, serving
        self._care = care or Care(serving.start_seconds, serving.turn_seconds)
        self._numbers = itertools.count(1)
        self._adapters: dict[ModelServer, dict[str, ServedModel]] = {}
        self._uses: Counter[tuple[ModelServer, str]] = Counter()
        self._precision = own_precision()
        self._on_gpu = self._precision == "bfloat16"

    async def open(self, champion: Champion | None, beside: OpenModel | None = None) -> OpenModel:
        """The model of a champion, once it has written a token.

        Args:
            champion: whose. None is allowed where the server has a model of its own.
            beside: the model that answers now. Where its server can take in another adapter, the
                new one is loaded there; else a second server is started beside it.

        Raises:
            ModelServerError: it cannot be served; says why.
        """
        served = served_model(champion, self._settings) if champion else None
        if served is None and self._serving.variant not in ("url", "nim"):
            raise ModelServerError("nothing was promoted yet; `make run` promotes a first model")
        if served and beside and (name := await self._name_there(served, beside)):
            self._uses[beside.server, name] += 1
            return OpenModel(beside.server, name, champion)
        server = await self._server(served)
        try:
            name = await server.start()
        except BaseException:
            self._adapters.pop(server, None)
            raise
        self._uses[server, name] += 1
        known = served is not None and (
            name == served.name or self._serving.variant not in ("url", "nim")
        )
        return OpenModel(server, name, champion if known else None)

    async def close(self, model: OpenModel) -> None:
        """Let go of a model that was opened; its server ends with its last one."""
        self._uses[model.server, model.name] -= 1
        if self._uses[model.server, model.name]:
            return
        adapters = self._adapters.get(model.server, {})
        adapters.pop(model.name, None)
        if adapters:
            with suppress(ModelAwayError):
                await model.server.connection.post(
                    "/v1/unload_lora_adapter", {"lora_name": model.name}
                )
            return
        self._adapters.pop(model.server, None)
        await model.server.close()

    async def _server(self, served: ServedModel | None) -> ModelServer:
        number = next(self._numbers)
        how = await self._how(served)
        server = ModelServer(
            f"{self._serving.variant} server {number}",
            how.command,
            health=HEALTH[self._serving.variant],
            writer=how.writer,
            choose=how.choose,
            care=self._care,
            cache=CACHE.get(self._serving.variant),
            log_path=self._settings.storage
            / "serving"
            / f"{self._serving.variant}-{os.getpid()}-{number}.txt",
        )
        if how.adapters:
            self._adapters[server] = how.adapters
        return server

    async def _how(self, served: ServedModel | None) -> "_How":
        variant = self._serving.variant
        encoder = await asyncio.to_thread(served.encoder) if served else None
        key = self._serving.model_api_key
        secret = key.get_secret_value() if key else None
        listed = self._listed(served)
        if served is None or encoder is None or variant in ("url", "nim"):
            url = (self._serving.model_url or "").rstrip("/").removesuffix("/v1")
            return _How(Endpoint(url, secret), ChatWriter(encoder), listed)
        if variant == "vllm":
            return await self._vllm(served, encoder)
        if variant == "transformers":
            merged = await self._merged(served)
            return _How(
                lambda _: transformers_command(merged()),
                ChatWriter(encoder, {"chat_template_kwargs": TEMPLATE_ARGUMENTS}),
                _always(str(merged())),
            )
        text = self._serving.command or ""
        whole = await self._merged(served) if "{model}" in text else None
        name = self._serving.model_name or served.name
        return _How(
            lambda _: given_command(text, whole and whole(), name, secret),
            ChatWriter(encoder),
            listed,
        )

    @property
    def _takes_adapters(self) -> bool:
        weights = self._serving.weights
        return weights == "adapter" or (weights == "auto" and self._on_gpu)

    async def _vllm(self, served: ServedModel, encoder: Encoder) -> "_How":
        adapters = {served.name: served} if self._takes_adapters else {}
        model = served.intact_base if adapters else await self._merged(served)

        def command(folder: Path) -> Command:
            return vllm_command(
                model(),
                # With adapters the base has a name too; nobody asks for it.
                "base" if adapters else served.name,
                folder,
                self._serving.max_context_tokens,
                on_gpu=self._on_gpu,
                # Those of now, also where it is started again.
                adapters={name: one.adapter for name, one in adapters.items()},
                more=self._serving.vllm_options,
            )

        async def choose(_: Connection) -> str:
            return next(reversed(adapters), served.name)

        writer = TokenWriter(encoder, self._serving.max_context_tokens)
        return _How(command, writer, choose, adapters)

    async def _merged(self, served: ServedModel) -> Callable[[], Path]:
        """What gives the merged model's folder, as it was made: asked whenever a server starts."""
        spec = merge_spec(served, self._settings, self._precision)
        await asyncio.to_thread(run_local, spec)
        ref = ArtefactRef(folder=spec.folder, fingerprint=spec.fingerprint)
        return partial(merged_folder, ref)

    async def _name_there(self, served: ServedModel, beside: OpenModel) -> str | None:
        """What a running server calls a model that it has, or whose adapter it takes in."""
        there = beside.champion
        if there is not None and _weights_of(there) == _weights_of(served.champion):
            return beside.name
        return served.name if await self._taken_in(served, beside.server) else None

    async def _taken_in(self, served: ServedModel, server: ModelServer) -> bool:
        """Load an adapter into a server that runs, where it is of the server's kind."""
        adapters = self._adapters.get(server)
        if not adapters or len(adapters) >= MOST_ADAPTERS or not server.ready:
            return False
        if served.name not in adapters:
            if not _fits(served, list(adapters.values())):
                return False
            body = {"lora_name": served.name, "lora_path": str(served.adapter)}
            try:
                await server.connection.post("/v1/load_lora_adapter", body)
                async for _ in server.stream(served.name, PROBE, 1):
                    pass
            except ModelAwayError:
                return False
            adapters[served.name] = served
        return True

    def _listed(self, served: ServedModel | None) -> Choose:
        asked = self._serving.model_name

        async def choose(connection: Connection) -> str:
            names = await connection.model_names()
            wanted = asked or (served.name if served else None)
            if wanted in names:
                return str(wanted)
            if asked is None and len(names) == 1:
                return names[0]
            raise ModelServerError(
                f"RETAIL_SERVING_MODEL_NAME={asked or ''}; allowed here:"
                f" {', '.join(names) or 'nothing, it lists no model'}"
            )

        return choose


@dataclass(frozen=True)
class _How:
    """How a server is started or reached, and asked."""

    command: Callable[[Path], Command] | Endpoint
    writer: Writer
    choose: Choose
    adapters: dict[str, ServedModel] = field(default_factory=dict)


def _always(name: str) -> Choose:
    async def choose(_: Connection) -> str:
        return name

    return choose


def _weights_of(champion: Champion) -> tuple[str, str]:
    return champion.adapter.fingerprint, champion.base_model


def _fits(served: ServedModel, there: Sequence[ServedModel]) -> bool:
    """Whether an adapter is for the layers, and of the rank, that a server was started for."""
    folders = [one.adapter for one in there]
    return (
        served.champion.base_model == there[0].champion.base_model
        and served.style == there[0].style
        and rank_step(served.adapter) <= max(map(rank_step, folders))
        and adapted_modules(served.adapter) <= set().union(*map(adapted_modules, folders))
    )
