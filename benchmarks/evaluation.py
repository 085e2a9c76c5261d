"""Evaluation speed: one engine for several models, beside a server and beside Hugging Face.

    .venv/bin/python benchmarks/evaluation.py [--rounds 3] [--questions 64] [--grounding none]

Every contestant answers the same evaluation questions greedily, to the end of its answer
or 96 tokens, in a process of its own, in turn, round by round, so that a machine whose speed drifts
slows all. Rates count whole questions.

    ours 1, 2, 4   one engine with so many adapters; each answers all questions
    server         the reference's way: one request at a time to vLLM's own server on 127.0.0.1,
                   which serves the model with one adapter merged
    generate       Hugging Face generate, batches of 16, with one adapter

`q/s` is while answering, prompts included; `q/s whole` from the process's start to its end, so with
the libraries' import, the engine's start, the swaps of weights and the parity check (ours). The
server is asked a few questions (`--asked-server`), for it takes as long for each.

With catalog records in the prompts (`--grounding retrieved`, the default) most of the work is
reading some 180 tokens a question, which no batch makes less on a CPU; with `--grounding none` it
is writing.

The model, the questions and the adapters are those of `make run` (which has to be there); of fewer
than four adapters some are used again under other names.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

from retail_assistant.corpus.encoding import Encoder
from retail_assistant.corpus.lengths import prompt_column
from retail_assistant.corpus.prompts import prompt_style
from retail_assistant.evaluation.engine import open_engine
from retail_assistant.evaluation.parity import gold_answers, parity, references
from retail_assistant.evaluation.predict import MAX_LENGTH, evaluation_questions
from retail_assistant.evaluation.shards import Variant, answer_shards, shards_of
from retail_assistant.launch.spec import read_artefact_ref
from retail_assistant.settings import get_settings
from retail_assistant.storage import TableStore
from retail_assistant.training.jobs import EVALUATED_TASK
from retail_assistant.training.merge import merge
from retail_assistant.vllm_options import vllm_options

REPOSITORY = Path(__file__).resolve().parent.parent
MAX_TOKENS = 96
SECONDS_TO_START = 300
ADAPTERS = (1, 2, 4)


def given_of(asked: argparse.Namespace, root: Path, folder: Path) -> dict[str, Any]:
    """The base model, adapters and questions of `make run`."""
    corpus = TableStore(root).ref("prompt_corpus", EVALUATED_TASK).read()
    chosen = evaluation_questions(corpus).head(asked.questions)
    chosen.write_parquet(folder / "questions.parquet")
    pointers = sorted((root / "artefacts" / "adapter").glob("latest-*.json"))
    if not pointers:
        raise SystemExit(f"{root} holds no adapters; `make run` makes some")
    adapters = [
        read_artefact_ref(root, "adapter", path.stem.removeprefix("latest-")).folder / "adapter"
        for path in pointers
    ]
    return {
        "base": str(read_artefact_ref(root, "base_model").folder / "model"),
        "adapters": [str(adapters[n % len(adapters)]) for n in range(max(ADAPTERS))],
        "questions": str(folder / "questions.parquet"),
        "merged": str(folder / "merged"),
        "asked_server": asked.asked_server,
        "grounding": asked.grounding,
    }


def silent(_: Any, *__: Any) -> None:
    """Progress, for nobody."""


def answer_ours(given: dict[str, Any], count: int) -> dict[str, Any]:
    """As the workload does: compare with PEFT, then answer, one engine for all."""
    from transformers import AutoTokenizer

    questions = pl.read_parquet(given["questions"])
    base = Path(given["base"])
    adapters = {f"job-{n}": Path(path) for n, path in enumerate(given["adapters"][:count])}
    encoder = Encoder(AutoTokenizer.from_pretrained(base), prompt_style(questions))
    gold = gold_answers(questions, given["grounding"], encoder)
    known = references(base, adapters, dict.fromkeys(adapters, gold))
    with (
        tempfile.TemporaryDirectory() as folder,
        open_engine(
            base, adapters, style=encoder.style, max_length=MAX_LENGTH, say=silent
        ) as engine,
    ):
        for name in adapters:
            parity(engine, name, known[name]).require(name)
        shards = [
            shard
            for name in adapters
            for shard in shards_of(
                Path(folder), questions, Variant(name=name, grounding=given["grounding"]), name
            )
        ]
        began = time.perf_counter()
        answer_shards(engine, shards, MAX_TOKENS, silent)
        seconds = time.perf_counter() - began
        tokens = sum(pl.read_parquet(one.path)["completion_tokens"].sum() for one in shards)
    return {"questions": questions.height * count, "seconds": seconds, "tokens": tokens}


def answer_generate(given: dict[str, Any]) -> dict[str, Any]:
    """Hugging Face generate, batched, with PEFT."""
    from transformers import AutoTokenizer

    from retail_assistant.evaluation.transformers_engine import TransformersEngine

    questions = pl.read_parquet(given["questions"])
    base = Path(given["base"])
    tokenizer = AutoTokenizer.from_pretrained(base, padding_side="left")
    encoder = Encoder(tokenizer, prompt_style(questions))
    adapters = {"job": Path(given["adapters"][0])}
    engine = TransformersEngine(base, adapters, encoder, tokenizer, MAX_LENGTH)
    conversations = questions[prompt_column(given["grounding"])].to_list()
    began = time.perf_counter()
    answers = engine.answer(conversations, MAX_TOKENS, "job")
    seconds = time.perf_counter() - began
    tokens = sum(answer.completion_tokens for answer in answers)
    return {"questions": questions.height, "seconds": seconds, "tokens": tokens}


def answer_server(given: dict[str, Any]) -> dict[str, Any]:
    """One request at a time, as the reference asks, to vLLM's own server.

    By its module, for `vllm serve` does not start on the CPU build.
    """
    conversations = pl.read_parquet(given["questions"])[prompt_column(given["grounding"])].to_list()
    with served(Path(given["merged"])) as url:
        ask(url, conversations[0])  # what is set up at the first request is not the requests' time
        began = time.perf_counter()
        tokens = [ask(url, one) for one in conversations[1 : 1 + given["asked_server"]]]
        seconds = time.perf_counter() - began
    return {"questions": len(tokens), "seconds": seconds, "tokens": sum(tokens)}


@contextlib.contextmanager
def served(model: Path):
    """A running server's address."""
    import torch

    from retail_assistant.launch.ray_head import free_port

    on_gpu = torch.cuda.is_available()
    options = vllm_options(model, MAX_LENGTH, on_gpu=on_gpu)
    port = free_port("127.0.0.1")
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    command += ["--model", str(model), "--served-model-name", "model"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--dtype", options["dtype"]]
    command += ["--max-model-len", str(MAX_LENGTH), "--seed", "0"]
    if not on_gpu:
        command += ["--enforce-eager", "--no-enable-chunked-prefill", "--max-num-seqs", "64"]
        command += ["--max-num-batched-tokens", str(MAX_LENGTH)]
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd=REPOSITORY)
        try:
            deadline = time.monotonic() + SECONDS_TO_START
            while not is_healthy(f"http://127.0.0.1:{port}/health"):
                if server.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise SystemExit(f"the server did not start: {log.read()[-3000:].decode()}")
                time.sleep(0.2)
            yield f"http://127.0.0.1:{port}/v1/chat/completions"
        finally:
            server.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(30)
            server.kill()


def is_healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def ask(url: str, messages: list[dict[str, str]]) -> int:
    """One question; the tokens of its answer."""
    body = {"model": "model", "messages": messages, "max_tokens": MAX_TOKENS, "temperature": 0}
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as answer:
        return int(json.load(answer)["usage"]["completion_tokens"])


CONTESTANTS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    **{f"ours {n}": lambda given, n=n: answer_ours(given, n) for n in ADAPTERS},
    "server": answer_server,
    "generate": answer_generate,
}


def in_a_process(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """One contestant, in a process of its own, and how long that lived."""
    command = [sys.executable, __file__, "--contestant", name, "--given", json.dumps(given)]
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name}: {(done.stderr or done.stdout)[-3000:]}")
    whole = time.perf_counter() - began
    return {**json.loads(done.stdout.strip().splitlines()[-1]), "whole": whole}


def report(name: str, found: list[dict[str, Any]], first: list[dict[str, Any]]) -> str:
    """A contestant's line: medians, and the medians of the rounds' ratios to `ours 1`."""

    def rates(rounds: list[dict[str, Any]], span: str) -> list[float]:
        return [one["questions"] / one[span] for one in rounds]

    answering, whole = rates(found, "seconds"), rates(found, "whole")
    times = [mine / other for mine, other in zip(rates(first, "seconds"), answering, strict=True)]
    longer = [mine / other for mine, other in zip(rates(first, "whole"), whole, strict=True)]
    tokens = statistics.median(one["tokens"] / one["questions"] for one in found)
    return (
        f"{name:<10}{found[0]['questions']:>10}{tokens:>12.1f}{statistics.median(answering):>9.2f}"
        f"{statistics.median(whole):>11.2f}"
        f"{statistics.median(times):>9.2f} ({min(times):.2f} to {max(times):.2f})"
        f"{statistics.median(longer):>9.2f} ({min(longer):.2f} to {max(longer):.2f})"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--questions", type=int, default=64)
    parser.add_argument("--grounding", choices=("none", "retrieved"), default="retrieved")
    parser.add_argument("--asked-server", type=int, default=16, help="Questions to the server.")
    parser.add_argument("--store", type=Path, help="Default: RETAIL_STORAGE_URI.")
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS))
    parser.add_argument("--contestant", choices=CONTESTANTS, help=argparse.SUPPRESS)
    parser.add_argument("--given", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.contestant:
        print(json.dumps(CONTESTANTS[asked.contestant](json.loads(asked.given))))
        return
    with tempfile.TemporaryDirectory() as scratch:
        root = asked.store or get_settings().storage
        given = given_of(asked, root, Path(scratch))
        print_table(asked, given)


def print_table(asked: argparse.Namespace, given: dict[str, Any]) -> None:
    """Run all contestants in turn, and print what they did."""
    names = list(dict.fromkeys(["ours 1", *asked.only]))
    if "server" in names:
        merge(Path(given["base"]), Path(given["adapters"][0]), Path(given["merged"]))
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for turn in range(asked.rounds):
        for name in names:
            found[name].append(in_a_process(name, given))
            rate = found[name][-1]["questions"] / found[name][-1]["seconds"]
            sys.stderr.write(f"round {turn + 1} of {asked.rounds}: {name} {rate:.2f} q/s\n")
    cores, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    print(
        f"{cores} cores, load {load:.1f}, {asked.rounds} rounds, grounding {asked.grounding};"
        " medians (lowest to highest)"
    )
    heads = f"{'questions':>10}{'tokens each':>12}{'q/s':>9}{'q/s whole':>11}"
    print(f"{'':<10}{heads}{'ours 1 is times as fast':>25}{'the same, whole':>25}")
    for name, rounds in found.items():
        print(report(name, rounds, found["ours 1"]))


if __name__ == "__main__":
    main()
