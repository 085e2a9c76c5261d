"""One engine with several adapters: each as PEFT applies it, and the base as if there were none."""

import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from retail_assistant.corpus.encoding import Encoder
from retail_assistant.evaluation.adapter_weights import AdapterError, adapter_config, weights
from retail_assistant.evaluation.engine import Engine, open_engine
from retail_assistant.evaluation.parity import Gold, ParityError, parity, references
from retail_assistant.evaluation.transformers_engine import AdaptedModel
from retail_assistant.evaluation.vllm_engine import BesideTheBase, VllmEngine
from retail_assistant_tests.evaluation.adapters import save_adapter, with_config
from retail_assistant_tests.evaluation.engines import (
    CONVERSATIONS,
    MAX_TOKENS,
    check_answers,
    check_own_log_probabilities,
)
from retail_assistant_tests.model_families import gemma_tokenizer, save_tiny_model

GOLD = Gold(
    prompts=[[5, 6, 7, 8, 9], [40] * 30, [77, 12]],
    answers=[[30, 31, 99, 100], [41, 42], [5, 4, 3, 2, 301]],
)
TOLERANCE = 1e-3
"""Nats; float32 on both sides, which add up in another order."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    save_tiny_model(folder, gemma_tokenizer(), tie_word_embeddings=False, initializer_range=0.3)
    return folder


@pytest.fixture(scope="module")
def adapters(base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Honest ones, one that does nothing, and one that claims to be stronger than it was."""
    folder = tmp_path_factory.mktemp("adapters")
    made = {
        "all-linear": save_adapter(base, folder / "a", 1),
        "query.rank/16": save_adapter(
            base, folder / "b", 2, r=16, lora_alpha=16, target_modules=["q_proj"], use_rslora=True
        ),
        "no-op": save_adapter(base, folder / "c", 3, 0.0),
    }
    return made | {"too-strong": with_config(made["all-linear"], folder / "d", lora_alpha=9)}


def in_a_process(check: Callable[..., None], *given: object) -> None:
    """A process of its own: vLLM binds its process to cores and sets its environment."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        pool.submit(check, *given).result()


def check_engine(engine: Engine, base: Path, adapters: Mapping[str, Path]) -> None:
    before = engine.answer(CONVERSATIONS, MAX_TOKENS)
    scores = engine.log_probabilities(GOLD.prompts, GOLD.answers)
    check_log_probabilities(engine, base, adapters)
    alone = {name: engine.answer(CONVERSATIONS, MAX_TOKENS, name) for name in adapters}
    assert alone["no-op"] == before
    assert alone["all-linear"] != before
    assert alone["all-linear"] != alone["query.rank/16"]

    assert engine.answer(CONVERSATIONS, MAX_TOKENS) == before
    assert engine.log_probabilities(GOLD.prompts, GOLD.answers) == scores

    asked = [(name, number) for number in range(3) for name in (*adapters, None)]
    written = dict(
        engine.finished(
            [CONVERSATIONS[number] for _, number in asked], MAX_TOKENS, [name for name, _ in asked]
        )
    )
    for place, (name, number) in enumerate(asked):
        expected = before if name is None else alone[name]
        assert written[place] == expected[number], (name, number)
    streamed = "".join(engine.stream(CONVERSATIONS[1], MAX_TOKENS, "all-linear"))
    assert streamed.strip() == alone["all-linear"][1].text
    check_abandoned(engine, [one.text for one in before])


def check_abandoned(engine: Engine, texts: list[str]) -> None:
    """What nobody listens to any more is not given to the next one."""
    pieces = engine.stream(CONVERSATIONS[0], MAX_TOKENS, "all-linear")
    next(pieces)
    pieces.close()
    assert [one.text for one in engine.answer(CONVERSATIONS, MAX_TOKENS)] == texts


def check_log_probabilities(engine: Engine, base: Path, adapters: Mapping[str, Path]) -> None:
    model = AdaptedModel(base, adapters)
    for name in (*adapters, None):
        found = engine.log_probabilities(GOLD.prompts, GOLD.answers, name)
        for prompt, answer, scores in zip(GOLD.prompts, GOLD.answers, found, strict=True):
            expected = model.log_probabilities([*prompt, *answer], len(answer), name)
            assert scores == pytest.approx(expected, abs=TOLERANCE), name


def check_parity(engine: Engine, base: Path, adapters: Mapping[str, Path]) -> None:
    """What is no adapter, or is not served as it was trained, gets no numbers."""
    # `too-strong` was trained as all-linear, but the engine serves what its configuration claims.
    trained = {**adapters, "too-strong": adapters["all-linear"]}
    known = references(base, trained, dict.fromkeys(trained, GOLD))
    for name in ("all-linear", "query.rank/16"):
        found = parity(engine, name, known[name])
        found.require(name)
        assert found.difference < 1e-4 < found.effect
        assert found.engine_effect == pytest.approx(found.effect, rel=1e-3)
        assert found.tokens == 11
    with pytest.raises(ParityError, match="no-op changes nothing"):
        parity(engine, "no-op", known["no-op"]).require("no-op")
    with pytest.raises(ParityError, match="too-strong is not served as it was trained"):
        parity(engine, "too-strong", known["too-strong"]).require("too-strong")
    ignored = parity(engine, "no-op", known["all-linear"])
    with pytest.raises(ParityError, match=r"changes .* by PEFT, 0 in the engine"):
        ignored.require("all-linear")
    swapped = known["all-linear"].model_copy(update={"base": known["all-linear"].adapted})
    with pytest.raises(ParityError, match="already without the adapter"):
        parity(engine, "all-linear", swapped).require("all-linear")


@pytest.mark.slow
def test_hugging_face_answers_with_any_adapter(
    base: Path, adapters: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with open_engine(base, adapters, style="chat", max_length=512, say=lambda _: None) as engine:
        assert engine.name == "hugging face generate"
        check_engine(engine, base, adapters)
        check_parity(engine, base, adapters)


@pytest.mark.slow
def test_an_only_adapter_need_not_be_named(
    base: Path, adapters: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    told: list[str] = []
    folder = adapters["all-linear"]
    with open_engine(base, folder, style="chat", max_length=512, say=told.append) as engine:
        model = AdaptedModel(base, {"it": folder})
        pairs = zip(GOLD.prompts, GOLD.answers, strict=True)
        expected = [model.log_probabilities([*ask, *say], len(say), "it") for ask, say in pairs]
        assert engine.log_probabilities(GOLD.prompts, GOLD.answers) == expected
        answers = engine.answer(CONVERSATIONS, MAX_TOKENS)
        written = dict(engine.finished(CONVERSATIONS, MAX_TOKENS, [None] * 3))
        assert [written[number] for number in range(3)] == answers
        streamed = "".join(engine.stream(CONVERSATIONS[0], MAX_TOKENS)).strip()
        assert streamed == answers[0].text
    assert told[-1] == "answering with hugging face generate"


@pytest.mark.slow
def test_vllm_on_a_cpu_swaps_its_weights(base: Path, adapters: dict[str, Path]) -> None:
    in_a_process(check_swapping, base, adapters)


def check_swapping(base: Path, adapters: dict[str, Path]) -> None:
    with open_engine(base, adapters, style="chat", max_length=512, say=lambda _: None) as engine:
        assert engine.name == "vllm on cpu"
        check_answers(engine, Encoder(gemma_tokenizer()))
        check_own_log_probabilities(engine, base)
        check_engine(engine, base, adapters)
        check_parity(engine, base, adapters)


@pytest.mark.slow
def test_vllm_serves_adapters_beside_the_base(base: Path, adapters: dict[str, Path]) -> None:
    """As on CUDA; its kernels run on a CPU too, only slowly."""
    in_a_process(check_beside, base, adapters)


def check_beside(base: Path, adapters: dict[str, Path]) -> None:
    from transformers import AutoTokenizer

    encoder = Encoder(AutoTokenizer.from_pretrained(base))
    held = BesideTheBase(adapters)
    assert held.options()["max_lora_rank"] == 16
    engine = VllmEngine(base, held, encoder, 512, on_gpu=False)
    check_log_probabilities(engine, base, adapters)
    check_parity(engine, base, adapters)
    asked = [name for name in (*adapters, None) for _ in CONVERSATIONS]
    written = dict(engine.finished(CONVERSATIONS * 5, MAX_TOKENS, asked))
    assert sorted(written) == list(range(15))
    assert written[0] != written[3]


@pytest.mark.parametrize(
    ("field", "value"),
    [("use_dora", True), ("bias", "all"), ("modules_to_save", ["lm_head"]), ("peft_type", "IA3")],
)
def test_other_adapters_are_refused(
    adapters: dict[str, Path], tmp_path: Path, field: str, value: object
) -> None:
    copied = with_config(adapters["all-linear"], tmp_path / "copy", **{field: value})
    with pytest.raises(AdapterError, match=f"{field}=.*allowed: "):
        adapter_config(copied)


def test_an_adapter_for_another_model_is_refused(
    base: Path, tmp_path: Path, tiny_model_folder: Path
) -> None:
    save_tiny_model(tmp_path / "deep", gemma_tokenizer(), num_hidden_layers=3)
    adapter = save_adapter(tmp_path / "deep", tmp_path / "adapter", 1)
    with pytest.raises(AdapterError, match=r"has not: model\.layers\.2\."):
        list(weights(base, adapter))
    with pytest.raises(AdapterError, match="cannot be read"):
        adapter_config(tmp_path / "nowhere")
