"""A model on this machine, through vLLM: asked as an endpoint is, without a server.

vLLM's asynchronous engine computes in a process of its own, which ends with this one.
"""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from retail_assistant.corpus.generators.model import GenerationError, Message, NoReplyError, Reply
from retail_assistant.corpus.generators.policy import GenerationPolicy
from retail_assistant.vllm_options import vllm_options


class OfflineModel:
    """A folder of safetensors that vLLM holds while the context lasts.

    Responses are held to their schema as they are written, unless the policy asks for text.

    Raises:
        GenerationError: the folder is no model.
    """

    def __init__(self, folder: Path, policy: GenerationPolicy) -> None:
        if not (folder / "config.json").is_file():
            raise GenerationError(f"{folder} is no model; allowed: a folder with safetensors")
        self.requests = 0
        self._folder = folder
        self._policy = policy
        self._engine: Any = None

    async def __aenter__(self) -> Self:
        import torch

        on_gpu = torch.cuda.is_available()
        length = self._policy.max_length
        options = vllm_options(self._folder, length, on_gpu=on_gpu)
        if not on_gpu:
            # Of a prompt that is read in pieces the CPU backend cannot wind back the seeded draws.
            options |= {"enable_chunked_prefill": False, "max_num_batched_tokens": length}
        try:
            from vllm.engine.arg_utils import AsyncEngineArgs
            from vllm.v1.engine.async_llm import AsyncLLM
        except ImportError as error:
            raise GenerationError(f"vLLM cannot be used here: {error}") from None
        self._engine = AsyncLLM.from_engine_args(AsyncEngineArgs(**options))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._engine.shutdown()
        self._engine = None

    async def ask(self, messages: Sequence[Message], schema: dict[str, Any], seed: int) -> Reply:
        """One response; see `Model.ask`."""
        from vllm.renderers.params import ChatParams
        from vllm.v1.engine.exceptions import EngineDeadError

        self.requests += 1
        number = str(self.requests)
        template = ChatParams(chat_template_kwargs={"add_generation_prompt": True})
        try:
            _, prompts = await self._engine.renderer.render_chat_async([list(messages)], template)
            sampling = self._sampling(schema, seed)
            async for output in self._engine.generate(prompts[0], sampling, request_id=number):
                last = output
        except EngineDeadError as error:
            raise GenerationError(f"vLLM's engine ended: {error}") from None
        except ValueError as error:
            # A prompt that is too long for the model.
            raise NoReplyError(str(error), reached=True) from None
        written = last.outputs[0]
        return Reply(
            text=written.text,
            finish_reason=written.finish_reason or "none",
            prompt_tokens=len(last.prompt_token_ids or ()),
            completion_tokens=len(written.token_ids),
        )

    def _sampling(self, schema: dict[str, Any], seed: int) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        policy = self._policy
        held = None
        if policy.output != "text":
            # A small model that may write blanks between tokens writes little else.
            held = StructuredOutputsParams(json=schema, disable_any_whitespace=True)
        return SamplingParams(
            temperature=policy.temperature,
            top_p=policy.top_p,
            max_tokens=policy.max_tokens,
            seed=seed,
            structured_outputs=held,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
