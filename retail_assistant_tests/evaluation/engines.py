"""What every engine has to do, checked against the model's own logits."""

from pathlib import Path

import pytest

from retail_assistant.corpus.encoding import Encoder
from retail_assistant.corpus.rendering import render_prompt
from retail_assistant.evaluation.engine import Engine

CONVERSATIONS = [render_prompt(question) for question in ("Why?", "What is it made of?", "Hm?")]
MAX_TOKENS = 12


def check_answers(engine: Engine, encoder: Encoder) -> None:
    """A doubled beginning would be one token more, and another answer."""
    answers = engine.answer(CONVERSATIONS, MAX_TOKENS)
    prompts = list(encoder.prompts(CONVERSATIONS))
    assert [answer.prompt_tokens for answer in answers] == list(map(len, prompts))
    assert all(answer.text for answer in answers)
    for conversation, answer in zip(CONVERSATIONS, answers, strict=True):
        assert "".join(engine.stream(conversation, MAX_TOKENS)).strip() == answer.text


def check_own_log_probabilities(engine: Engine, folder: Path) -> None:
    """Against the sum of the model's own logits, position by position; and what is refused."""
    import torch
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    prompts = [[5, 6, 7], [5, 6, 7, 8, 9, 10, 11], [12], [5, 6, 7]]
    continuations = [[30, 31], [40], list(range(60, 80)), []]
    found = engine.log_probabilities(prompts, continuations)
    assert [len(one) for one in found] == [2, 1, 20, 0]
    for prompt, rest, scores in zip(prompts, continuations, found, strict=True):
        for place, token in enumerate(rest):
            with torch.no_grad():
                logits = model(torch.tensor([[*prompt, *rest[:place]]])).logits[0, -1]
            assert scores[place] == pytest.approx(logits.log_softmax(-1)[token].item(), abs=1e-3)
    assert engine.log_probabilities([], []) == []
    for wrong, allowed in [
        (([[1]], []), "1 prompts with 0 continuations"),
        (([[1], []], [[2], [3]]), "prompt 1 is empty"),
        (([[1] * 500], [[2] * 12]), "512 tokens; allowed: 511"),
    ]:
        with pytest.raises(ValueError, match=allowed):
            engine.log_probabilities(*wrong)
