"""Fine-tuning speed: ours beside the reference's settings, TRL's defaults, and LitGPT, in one run.

    .venv/bin/python benchmarks/finetune.py [--rounds 3] [--rows 40] [--litgpt PYTHON]
    .venv/bin/python benchmarks/finetune.py --device cuda --shape 1b [--length 2048]

Every contestant trains a LoRA adapter of the same rank on the same layers of the same base model
with the same rows, in a process of its own, in turn, round by round, so that a machine whose speed
drifts slows all. Rates count tokens that were read, without padding, from the third step on; the
first two warm up. MFU is 4 FLOP a parameter and token over what the device can do at most.

    ours        the project's trainer, as `adapter` uses it
    reference   TRL with batch 1, no packing, eager attention, gradient checkpointing, loss over all
    trl         TRL with its own defaults
    litgpt      LitGPT's finetune_lora; PYTHON is that of an environment that has it

On a CPU the model is the embedded one, the rows are those of `make run` (which has to be there).
With `--shape` the model has random weights in a Llama's shape, and rows of `--length` tokens.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

from retail_assistant.corpus.encoding import Encoder
from retail_assistant.launch.spec import read_artefact_ref
from retail_assistant.model_shape import model_shape
from retail_assistant.settings import get_settings
from retail_assistant.storage import TableStore
from retail_assistant.training.fitting.arguments import stage_settings, training_arguments
from retail_assistant.training.fitting.memory_peak import begin_peak, gpu_peak_mib, peak_mib
from retail_assistant.training.fitting.model import base_model, lora
from retail_assistant.training.fitting.rows import training_dataset, training_rows
from retail_assistant.training.fitting.trainer import trainer_class
from retail_assistant.training.jobs import HyperparameterJob
from retail_assistant.training.planning.devices import local_devices, peak_flops

WARM_UP_STEPS = 2
FLOPS_A_PARAMETER = 4
"""Forward 2 and backward 2: the frozen weights get no gradient of their own."""
SHAPES = {
    "tiny": {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 128,
    },
    "1b": {
        "hidden_size": 2048,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "intermediate_size": 8192,
    },
    "8b": {
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "intermediate_size": 14336,
    },
}
"""As Llama 3.2 1B and Llama 3.1 8B; `tiny` to try this file."""
LITGPT_NAME = "SmolLM2-135M-Instruct"


def has_gpu() -> bool:
    """Whether torch finds a GPU."""
    import torch

    return torch.cuda.is_available()


class Rates:
    """A trainer's steps: seconds and tokens, once it is warm."""

    def __init__(self) -> None:
        self.steps = self.tokens = 0
        self.losses: list[float] = []
        self._began = 0.0
        self.seconds = 0.0

    def step(self, tokens: int, loss: Any) -> None:
        """A step that has just ended."""
        if has_gpu():
            import torch

            torch.cuda.synchronize()
        now = time.perf_counter()
        self.steps += 1
        self.losses.append(float(loss))
        if self.steps <= WARM_UP_STEPS:
            self._began = now
            return
        self.tokens += tokens
        self.seconds = now - self._began


def timed(kind: type, rates: Rates) -> type:
    """A trainer class whose steps are timed; nothing else is changed."""

    class Timed(kind):  # type: ignore[misc, valid-type]
        def training_step(self, model: Any, inputs: dict[str, Any], *args: Any) -> Any:
            mask = inputs.get("attention_mask")
            read = inputs["input_ids"].numel() if mask is None else int(mask.sum())
            loss = super().training_step(model, inputs, *args)
            rates.step(read, loss)
            return loss

    return Timed


def hyperparameters(given: dict[str, Any]) -> HyperparameterJob:
    """The rank and layers that all contestants train."""
    return HyperparameterJob(
        lora_r=16,
        lora_alpha=32,
        learning_rate=1e-3,
        batch_size=given["batch_size"],
        max_seq_length=max(1024, given["length"]),
        grounding="retrieved",
        evaluations=0,
        sample_generations=0,
    )


def train_ours(given: dict[str, Any], folder: Path, rates: Rates) -> None:
    """The project's own trainer."""
    from transformers import AutoTokenizer

    job = hyperparameters(given)
    tokenizer = AutoTokenizer.from_pretrained(given["base"])
    stage = stage_settings(job, "instruction", can_evaluate=False)
    timed(trainer_class(), rates)(
        model=base_model(Path(given["base"]), job),
        args=training_arguments(folder, job, stage),
        train_dataset=training_dataset(pl.read_parquet(given["rows"]), Encoder(tokenizer)),
        processing_class=tokenizer,
        peft_config=lora(job, model_shape(Path(given["base"]))),
    ).train()


def train_trl(given: dict[str, Any], folder: Path, rates: Rates) -> None:
    """TRL as its documentation shows it: a model's name, rows of messages, a LoRA."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    rows = pl.read_parquet(given["rows"]).select("prompt", "completion")
    timed(SFTTrainer, rates)(
        model=given["base"],
        args=SFTConfig(
            output_dir=str(folder),
            num_train_epochs=1,
            learning_rate=1e-3,
            max_length=max(1024, given["length"]),
            **on_this_device(),
        ),
        train_dataset=Dataset.from_list(rows.to_dicts()),
        peft_config=lora(hyperparameters(given), model_shape(Path(given["base"]))),
    ).train()


def train_reference(given: dict[str, Any], folder: Path, rates: Rates) -> None:
    """The reference's settings: texts, one at a time, nothing left out of the loss."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    tokenizer = AutoTokenizer.from_pretrained(given["base"])
    rows = pl.read_parquet(given["rows"])
    texts = [
        tokenizer.apply_chat_template([*prompt, *completion], tokenize=False)
        for prompt, completion in rows.select("prompt", "completion").iter_rows()
    ]
    dtype = torch.bfloat16 if has_gpu() else torch.float32
    timed(SFTTrainer, rates)(
        model=AutoModelForCausalLM.from_pretrained(
            given["base"], attn_implementation="eager", dtype=dtype
        ),
        args=SFTConfig(
            output_dir=str(folder),
            num_train_epochs=1,
            learning_rate=1e-3,
            per_device_train_batch_size=1,
            gradient_accumulation_steps=1,
            gradient_checkpointing=True,
            packing=False,
            max_length=max(1024, given["length"]),
            dataset_text_field="text",
            **on_this_device(),
        ),
        train_dataset=Dataset.from_list([{"text": text} for text in texts]),
        processing_class=tokenizer,
        peft_config=lora(hyperparameters(given), model_shape(Path(given["base"]))),
    ).train()


def on_this_device() -> dict[str, Any]:
    """What any user has to say on a CPU, and silence."""
    quiet = {"report_to": "none", "disable_tqdm": True, "logging_steps": 1, "save_strategy": "no"}
    return quiet if has_gpu() else {**quiet, "use_cpu": True, "bf16": False}


TRAINERS: dict[str, Callable[[dict[str, Any], Path, Rates], None]] = {
    "ours": train_ours,
    "reference": train_reference,
    "trl": train_trl,
}


def compete(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """One contestant's training, in this process."""
    rates = Rates()
    begin_peak()
    with tempfile.TemporaryDirectory() as folder:
        TRAINERS[name](given, Path(folder), rates)
    if rates.steps <= WARM_UP_STEPS:
        raise SystemExit(
            f"{name}: {rates.steps} steps, {WARM_UP_STEPS} of them warm up; more --rows"
        )
    return {
        "tokens": rates.tokens,
        "seconds": rates.seconds,
        "peak_mib": gpu_peak_mib() or peak_mib(),
        "first_loss": rates.losses[0],
        "last_loss": rates.losses[-1],
    }


def in_a_process(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """One contestant's training, in a process of its own."""
    command = [sys.executable, __file__, "--contestant", name, "--given", json.dumps(given)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def litgpt(python: str, given: dict[str, Any], checkpoint: Path) -> dict[str, Any]:
    """LitGPT's own command, which tells its own speed at its end."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        rows = [
            {
                "instruction": prompt[-1]["content"],
                "input": "",
                "output": completion[-1]["content"],
            }
            for prompt, completion in pl.read_parquet(given["rows"])
            .select("prompt", "completion")
            .iter_rows()
        ]
        (folder / "train.json").write_text(json.dumps(rows))
        (folder / "val.json").write_text(json.dumps(rows[:1]))
        layers = ("query", "key", "value", "projection", "mlp")
        command = [python, "-m", "litgpt", "finetune_lora", str(checkpoint)]
        command += [f"--lora_{layer}=true" for layer in layers]
        command += ["--lora_r=16", "--lora_alpha=32", "--lora_dropout=0", "--precision=32-true"]
        command += ["--data=JSON", f"--data.json_path={folder}", "--data.mask_prompt=true"]
        command += [f"--train.micro_batch_size={given['batch_size']}", "--train.epochs=1"]
        command += [f"--train.global_batch_size={given['batch_size']}", "--train.log_interval=1"]
        command += ["--train.lr_warmup_steps=1", "--eval.initial_validation=false"]
        command += ["--eval.interval=100000", "--eval.final_validation=false"]
        command += ["--train.save_interval=100000", f"--out_dir={folder / 'out'}"]
        child = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ
        )
        told, _ = child.communicate()
        if child.returncode:
            raise SystemExit(f"litgpt: {told[-3000:]}")
    return read_litgpt(told)


def read_litgpt(told: str) -> dict[str, Any]:
    """Tokens and seconds of LitGPT's iterations but the first two, from its own words."""
    steps = [float(ms) / 1000 for ms in re.findall(r"iter time: ([\d.]+) ms", told)]
    losses = [float(loss) for loss in re.findall(r"loss train: ([\d.]+)", told)]
    whole = re.search(r"Tokens w/ Prompt\s*:\s*(\d+)", told)
    if whole is None or len(steps) <= WARM_UP_STEPS:
        raise SystemExit(f"litgpt: its output is not as expected: {told[-3000:]}")
    share = (len(steps) - WARM_UP_STEPS) / len(steps)
    return {
        "tokens": int(whole[1]) * share,
        "seconds": sum(steps[WARM_UP_STEPS:]),
        "peak_mib": None,
        "first_loss": losses[0],
        "last_loss": losses[-1],
    }


def litgpt_checkpoint(python: str, base: Path, folder: Path) -> Path:
    """The base model as LitGPT keeps it."""
    import shutil

    checkpoint = folder / LITGPT_NAME
    shutil.copytree(base, checkpoint)
    convert = [python, "-m", "litgpt", "convert_to_litgpt", str(checkpoint)]
    subprocess.run([*convert, f"--model_name={LITGPT_NAME}"], check=True, capture_output=True)
    return checkpoint


def embedded(rows: int, folder: Path) -> dict[str, Any]:
    """The base model and rows of `make run`."""
    settings = get_settings()
    base = read_artefact_ref(settings.storage, "base_model").folder / "model"
    corpus = TableStore(settings.storage).ref("prompt_corpus", "assistant").read()
    given = {"base": str(base), "rows": str(folder / "rows.parquet"), "batch_size": 2, "length": 0}
    chosen = training_rows(corpus, hyperparameters(given), "train").head(rows)
    chosen.write_parquet(given["rows"])
    return given


def random_model(shape: str, rows: int, length: int, folder: Path) -> dict[str, Any]:
    """A Llama of random weights, and rows that fill its length, a fifth of them learned."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(
        read_artefact_ref(get_settings().storage, "base_model").folder / "model"
    )
    config = LlamaConfig(
        **SHAPES[shape],
        vocab_size=len(tokenizer),
        max_position_embeddings=2 * length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    base = folder / "base"
    with torch.device("cuda" if has_gpu() else "cpu"):
        model = LlamaForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(base)
    tokenizer.save_pretrained(base)
    word = " cotton"
    row = {
        "prompt": [{"role": "user", "content": word * (length * 4 // 5 - 20)}],
        "completion": [{"role": "assistant", "content": word * (length // 5 - 20)}],
    }
    given = {"base": str(base), "rows": str(folder / "rows.parquet")}
    pl.DataFrame([row] * rows).write_parquet(given["rows"])
    return {**given, "batch_size": 4, "length": length}


def report(name: str, found: list[dict[str, Any]], ours: list[dict[str, Any]], peak: float) -> str:
    """A contestant's line: medians, and the median of the rounds' ratios."""
    rates = [one["tokens"] / one["seconds"] for one in found]
    ratios = [
        (mine["tokens"] / mine["seconds"]) / rate for mine, rate in zip(ours, rates, strict=True)
    ]
    parameters = found[0]["parameters"]
    mfu = statistics.median(rates) * FLOPS_A_PARAMETER * parameters / peak
    memory = statistics.median(one["peak_mib"] or 0 for one in found) or None
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    return (
        f"{name:<10} {statistics.median(rates):>10.1f} {mfu:>7.1%}"
        f" {'-' if memory is None else f'{memory:,.0f}':>9}"
        f" {statistics.median(ratios):>6.2f} ({spread})"
        f"   {found[0]['first_loss']:.2f} -> {found[0]['last_loss']:.2f}"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=40)
    parser.add_argument("--length", type=int, default=2048, help="Tokens a row, with --shape.")
    parser.add_argument("--shape", choices=SHAPES, help="Random weights instead of the embedded.")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--litgpt", metavar="PYTHON", help="An interpreter that has LitGPT.")
    parser.add_argument("--contestant", choices=TRAINERS, help=argparse.SUPPRESS)
    parser.add_argument("--given", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.contestant:
        print(json.dumps(compete(asked.contestant, json.loads(asked.given))))
        return
    if asked.device == "cuda" and not has_gpu():
        raise SystemExit("--device cuda: torch finds no GPU here")
    if asked.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        given = (
            random_model(asked.shape, asked.rows, asked.length, folder)
            if asked.shape
            else embedded(asked.rows, folder)
        )
        print_table(asked, given, folder)


def print_table(asked: argparse.Namespace, given: dict[str, Any], folder: Path) -> None:
    """Run all contestants in turn, and print what they did."""
    contestants: dict[str, Callable[[], dict[str, Any]]] = {
        name: lambda name=name: in_a_process(name, given) for name in TRAINERS
    }
    if asked.litgpt and not asked.shape:
        checkpoint = litgpt_checkpoint(asked.litgpt, Path(given["base"]), folder)
        contestants["litgpt"] = lambda: litgpt(asked.litgpt, given, checkpoint)
    devices = local_devices()
    peak = peak_flops(devices) or float("nan")
    parameters = model_shape(Path(given["base"])).parameters
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in contestants}
    for turn in range(asked.rounds):
        for name, train in contestants.items():
            found[name].append({**train(), "parameters": parameters})
            rate = found[name][-1]["tokens"] / found[name][-1]["seconds"]
            sys.stderr.write(f"round {turn + 1} of {asked.rounds}: {name} {rate:.1f} tokens/s\n")
    print(f"{devices}: {peak / 1e12:.2f} TFLOP/s at most; {asked.rows} rows, {asked.rounds} rounds")
    print(f"{'':<10} {'tokens/s':>10} {'MFU':>7} {'peak MiB':>9} {'ours is times as fast':>22}")
    for name, rounds in found.items():
        print(report(name, rounds, found["ours"], peak))


if __name__ == "__main__":
    main()
