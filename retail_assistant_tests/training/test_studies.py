"""Studies: every shipped file parses, and every mistake is named with file, job and field."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from retail_assistant.corpus.tasks import TASKS
from retail_assistant.settings import SHIPPED_STUDIES
from retail_assistant.training.jobs import HyperparameterJob, StudyError
from retail_assistant.training.resources import ResourceRequest
from retail_assistant.training.studies import Registry, load_registry, notes

GOOD_JOB: dict[str, Any] = {"lora_r": 8, "lora_alpha": 16, "learning_rate": 2e-4}


def write_study(folder: Path, content: str, name: str = "study.yaml") -> Path:
    path = folder / name
    path.write_text(content)
    return path


def study_of(jobs: dict[str, Any], **fields: Any) -> str:
    content = {"study": "small", "description": "A study.", "jobs": jobs} | fields
    return yaml.safe_dump(content, sort_keys=False)


@pytest.fixture(scope="module")
def shipped() -> Registry:
    return load_registry(SHIPPED_STUDIES)


def test_every_shipped_study_parses(shipped: Registry) -> None:
    files = {path.stem for path in SHIPPED_STUDIES.glob("*.yaml")}
    assert {*shipped.studies, *shipped.searches} == files
    assert {"retail", "quickstart"} <= files
    assert all(job.task in TASKS for job in shipped.jobs.values())
    assert all(study.description for study in shipped.studies.values())


@pytest.mark.parametrize(
    ("job", "expected"),
    [
        ("base", (1, 8, 16, 0.1, 0.3, 2e-4, 0.001, 0.03, 512)),
        ("job-0", (2, 8, 16, 0.1, 1, 2e-5, 0.01, 0.1, 1024)),
        ("job-1", (3, 16, 32, 0.2, 1, 2e-4, 0.005, 0.2, 2048)),
        ("job-2", (4, 32, 64, 0.3, 1, 3e-4, 0.001, 0.3, 8192)),
    ],
)
def test_the_retail_study_is_the_reference_table(
    shipped: Registry, job: str, expected: tuple[float, ...]
) -> None:
    given = shipped.job(job).hyperparameters
    assert shipped.job(job).study == "retail"
    assert expected == (
        given.epochs,
        given.lora_r,
        given.lora_alpha,
        given.lora_dropout,
        given.max_grad_norm,
        given.learning_rate,
        given.weight_decay,
        given.warmup_ratio,
        given.max_seq_length,
    )
    assert given.grounding == "none"


def test_the_quickstart_jobs_differ_in_grounding(shipped: Registry) -> None:
    assert shipped.job("quickstart-closed-book").hyperparameters.grounding == "none"
    assert shipped.job("quickstart-grounded").hyperparameters.grounding == "retrieved"


def test_defaults_hold_where_a_job_says_nothing(tmp_path: Path) -> None:
    jobs = {"a": {"learning_rate": 1e-3}, "b": {"lora_r": 4}}
    write_study(tmp_path, study_of(jobs, defaults=GOOD_JOB))
    registry = load_registry(tmp_path)
    assert registry.job("a").hyperparameters == HyperparameterJob(**GOOD_JOB | jobs["a"])
    assert registry.job("b").hyperparameters == HyperparameterJob(**GOOD_JOB | jobs["b"])


def test_an_unknown_job_is_told_which_exist(shipped: Registry) -> None:
    with pytest.raises(StudyError, match=r"no job 'job-9'; allowed: .*job-0, job-1, job-2"):
        shipped.job("job-9")


@pytest.mark.parametrize(
    ("values", "field", "value", "allowed"),
    [
        ({"learning_rate": 2e4}, "learning_rate", "20000.0", "less than or equal to 0.1"),
        ({"learning_rate": 0.11}, "learning_rate", "0.11", "less than or equal to 0.1"),
        ({"learning_rate": 0}, "learning_rate", "0", "greater than 0"),
        ({"lora_r": 0}, "lora_r", "0", "greater than or equal to 1"),
        ({"lora_alpha": 0}, "lora_alpha", "0", "greater than or equal to 1"),
        ({"lora_dropout": 1}, "lora_dropout", "1", "less than 1"),
        ({"epochs": -1}, "epochs", "-1", "greater than 0"),
        ({"warmup_ratio": 2}, "warmup_ratio", "2", "less than 1"),
        ({"weight_decay": -0.1}, "weight_decay", "-0.1", "greater than or equal to 0"),
        ({"max_grad_norm": 0}, "max_grad_norm", "0", "greater than 0"),
        ({"max_seq_length": 8}, "max_seq_length", "8", "greater than or equal to 64"),
        ({"batch_size": 0}, "batch_size", "0", "greater than or equal to 1"),
        ({"data_fraction": 1.5}, "data_fraction", "1.5", "less than or equal to 1"),
        ({"seed": "x"}, "seed", "'x'", "valid integer"),
        ({"quantization": "2bit"}, "quantization", "'2bit'", "'none', '8bit' or '4bit'"),
        ({"grounding": "maybe"}, "grounding", "'maybe'", "'none' or 'retrieved'"),
        ({"packing": "perhaps"}, "packing", "'perhaps'", "valid boolean"),
        ({"stages": ["magic"]}, "stages.0", "'magic'", "'instruction'"),
        ({"lerning_rate": 1e-3}, "lerning_rate", "0.001", "allowed: epochs, lora_r"),
    ],
)
def test_a_wrong_value_is_named(
    tmp_path: Path, values: dict[str, Any], field: str, value: str, allowed: str
) -> None:
    path = write_study(tmp_path, study_of({"fine": GOOD_JOB, "wrong": GOOD_JOB | values}))
    with pytest.raises(StudyError) as caught:
        load_registry(tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{path}: job wrong: {field}={value}: ")
    assert allowed in message
    assert "\n" not in message


def test_a_missing_value_is_named(tmp_path: Path) -> None:
    path = write_study(tmp_path, study_of({"wrong": {"lora_r": 8, "lora_alpha": 16}}))
    with pytest.raises(StudyError) as caught:
        load_registry(tmp_path)
    assert str(caught.value) == f"{path}: job wrong: learning_rate: Field required"


def test_an_alpha_without_a_rank_is_refused(tmp_path: Path) -> None:
    write_study(tmp_path, study_of({"wrong": {"lora_alpha": 16, "learning_rate": 1e-4}}))
    with pytest.raises(StudyError, match=r"job wrong: .*lora_alpha is given without lora_r"):
        load_registry(tmp_path)


@pytest.mark.parametrize(
    "name", ["Job 1", "../job", "", "job/1", "-job", "j" * 64, "job\n", "jöb", 'job"']
)
@pytest.mark.fault(
    "An id or a name is a path: product, partition, job, key, object, document, picture",
    "It is refused or only looked up; nothing outside is read or written",
)
def test_a_name_that_is_no_partition_key_is_refused(tmp_path: Path, name: str) -> None:
    write_study(tmp_path, study_of({name: GOOD_JOB}))
    with pytest.raises(StudyError, match="job name"):
        load_registry(tmp_path)


def test_a_job_name_in_two_studies_is_refused(tmp_path: Path) -> None:
    write_study(tmp_path, study_of({"same": GOOD_JOB}), "one.yaml")
    second = write_study(tmp_path, study_of({"same": GOOD_JOB}, study="other"), "two.yaml")
    with pytest.raises(StudyError) as caught:
        load_registry(tmp_path)
    assert str(caught.value) == f"{second}: job 'same' exists in study 'small' too"


def test_a_job_name_twice_in_one_file_is_refused(tmp_path: Path) -> None:
    body = "{lora_r: 8, lora_alpha: 16, learning_rate: 1.0e-4}"
    content = f"study: small\ndescription: A study.\njobs:\n  same: {body}\n  same: {body}\n"
    path = write_study(tmp_path, content)
    with pytest.raises(StudyError, match="same") as caught:
        load_registry(tmp_path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_study_in_two_files_is_refused(tmp_path: Path) -> None:
    write_study(tmp_path, study_of({"a": GOOD_JOB}), "one.yaml")
    write_study(tmp_path, study_of({"b": GOOD_JOB}), "two.yaml")
    with pytest.raises(StudyError, match=r"two\.yaml: study 'small' exists in another file"):
        load_registry(tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "valid dictionary"),
        ("- a\n- b\n", "valid dictionary"),
        ("study: [", "not YAML"),
        ("study: s\ndescription: d\njobs: {}\n", "neither jobs nor grid; allowed: jobs, grid"),
        ("study: s\ndescription: d\n", "neither jobs nor grid; allowed: jobs, grid"),
        (study_of({"a": GOOD_JOB}, task="juggling"), "task='juggling'"),
        (study_of({"a": GOOD_JOB}, task="domain_text"), "'product_description' or 'sentiment'"),
        (study_of({"a": GOOD_JOB}, owner="me"), "owner='me'"),
        ("study: !!python/object/apply:os.system ['touch owned']\n", "not YAML"),
        ("study: s\ndescription: !!python/name:os.system\n", "not YAML"),
    ],
)
@pytest.mark.fault(
    "A study, profile, journey or template has YAML tricks: objects, alias bombs, depth, NaN",
    "One clear error that names the file; nothing is run and memory is bounded",
)
def test_a_file_that_is_no_study_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write_study(tmp_path, content)
    with pytest.raises(StudyError) as caught:
        load_registry(tmp_path)
    assert str(caught.value).startswith(f"{path}: ")
    assert reason in str(caught.value)
    assert not (tmp_path / "owned").exists()


def test_an_unknown_field_of_a_study_is_told_the_study_s_fields(tmp_path: Path) -> None:
    write_study(tmp_path, study_of({"a": GOOD_JOB}, owner="me"))
    with pytest.raises(StudyError, match=r"allowed: study, description, task, base_model"):
        load_registry(tmp_path)


@pytest.fixture
def other_task(tmp_path: Path) -> Registry:
    write_study(tmp_path, study_of({"asked": GOOD_JOB}), "one.yaml")
    describing = study_of({"describing": GOOD_JOB}, study="other", task="product_description")
    write_study(tmp_path, describing, "two.yaml")
    return load_registry(tmp_path)


def test_a_study_may_be_of_another_task(other_task: Registry) -> None:
    assert list(other_task.of_task("assistant")) == ["asked"]
    assert list(other_task.of_task("product_description")) == ["describing"]
    assert other_task.of_task("domain_text") == {}


def test_only_answers_of_the_assistant_are_scored(other_task: Registry) -> None:
    assert other_task.evaluated_job("asked") == other_task.job("asked")
    with pytest.raises(StudyError, match="'describing' is of the task product_description, whose"):
        other_task.evaluated_job("describing")


def test_only_jobs_of_the_task_sentiment_classify(shipped: Registry, other_task: Registry) -> None:
    assert shipped.classifying_job("sentiment-attention").task == "sentiment"
    with pytest.raises(StudyError, match=r"of the task assistant; allowed: .*: sentiment-att"):
        shipped.classifying_job("quickstart-grounded")
    with pytest.raises(StudyError, match="allowed: jobs of the task sentiment: none"):
        other_task.classifying_job("describing")


def test_a_task_without_records_takes_no_grounded_job(tmp_path: Path) -> None:
    job = GOOD_JOB | {"grounding": "retrieved"}
    path = write_study(tmp_path, study_of({"a": job}, task="product_description"))
    with pytest.raises(StudyError) as caught:
        load_registry(tmp_path)
    assert str(caught.value).startswith(f"{path}: job a: grounding='retrieved'; allowed for the")


def test_a_folder_without_studies_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"no studies; allowed: at least one \*\.yaml"):
        load_registry(tmp_path)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_bytes(b"study: \xff\xfe")
    with pytest.raises(StudyError) as caught:
        load_registry(tmp_path)
    assert str(caught.value).startswith(f"{path}: not YAML")


def test_the_qlora_study_compares_targets_and_precision(shipped: Registry) -> None:
    jobs = [job for job in shipped.jobs.values() if job.study == "qlora-targets"]
    assert {job.task for job in jobs} == {"product_description"}
    given = [job.hyperparameters for job in jobs]
    assert [(job.lora_r, job.target_modules, job.quantization) for job in given] == [
        (8, ["q_proj", "v_proj"], "4bit"),
        (16, ["q_proj", "v_proj"], "4bit"),
        (8, "all-linear", "4bit"),
        (8, "all-linear", "8bit"),
    ]


@pytest.mark.parametrize(
    ("study", "field", "values"),
    [
        ("data-size", "data_fraction", [0.5, 0.7, 0.9, 1.0]),
        ("learning-rate", "learning_rate", [2e-3, 2e-4, 2e-5, 2e-6]),
    ],
)
def test_a_study_of_one_field_varies_nothing_else(
    shipped: Registry, study: str, field: str, values: list[float]
) -> None:
    jobs = [job.hyperparameters for job in shipped.jobs.values() if job.study == study]
    assert [getattr(job, field) for job in jobs] == values
    assert len({job.model_copy(update={field: 0}).model_dump_json() for job in jobs}) == 1


def test_the_domain_study_is_with_and_without_the_stage(shipped: Registry) -> None:
    without = shipped.job("domain-without").hyperparameters
    first = shipped.job("domain-first").hyperparameters
    assert without.stages == ["instruction"]
    assert first.stages == ["domain", "instruction"]
    of_the_stage = {"stages", "domain_epochs", "domain_learning_rate"}
    assert without.model_dump(exclude=of_the_stage) == first.model_dump(exclude=of_the_stage)
    assert shipped.job("domain-first").corpora == ["assistant", "domain_text"]


def test_a_grid_makes_a_job_of_every_combination(tmp_path: Path) -> None:
    grid = {
        "lora_r": [8, 16],
        "rate": {"slow": {"learning_rate": 1e-5}, 2: {"learning_rate": 2e-5}},
    }
    common = {"lora_alpha": 16}
    write_study(tmp_path, study_of({}, grid=grid, defaults=common, name="r{lora_r}-{rate}"))
    jobs = load_registry(tmp_path).jobs
    found = {name: (job.hyperparameters.lora_r, job.hyperparameters.learning_rate)
             for name, job in jobs.items()}  # fmt: skip
    assert found == {
        "r8-slow": (8, 1e-5),
        "r8-2": (8, 2e-5),
        "r16-slow": (16, 1e-5),
        "r16-2": (16, 2e-5),
    }


def test_a_grid_stands_beside_jobs(tmp_path: Path) -> None:
    write_study(tmp_path, study_of({"own": GOOD_JOB}, grid={"lora_r": [4]}, defaults=GOOD_JOB))
    assert list(load_registry(tmp_path).jobs) == ["own", "small-4"]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"grid": {"lora_r": []}}, "grid.lora_r is empty; allowed: at least one value"),
        ({"grid": {"lora_r": 8}}, "grid.lora_r=8; allowed: a list of values, or names"),
        ({"grid": {"lora_r": [8, 8]}}, "two combinations of the grid are named 'small-8'"),
        ({"grid": {"lora_r": [8]}, "name": "small"}, "grid: the job 'small' is among the study's"),
        ({"grid": {"lora_r": [8, 16]}, "name": "x-{rank}"}, "{rank} is no axis; allowed: {lora_r}"),
        ({"grid": {"lora_r": [8]}, "name": "x-{lora_r"}, "allowed: text with {lora_r}"),
        ({"grid": {"lora_r": [8]}, "name": "X{lora_r}"}, "job name 'X8'; allowed"),
        ({"name": "x"}, "name='x' without grid"),
        ({"grid": {"lora_r": [8], "size": {"s": {"lora_r": 4}}}}, "lora_r is on the axis lora_r"),
        ({"grid": {"seed": list(range(300))}}, "300 combinations; allowed: at most 256"),
        ({"grid": {"rank": [8]}}, "job small-8: rank=8: Extra inputs are not permitted; allowed"),
    ],
)
def test_a_wrong_grid_is_named(tmp_path: Path, fields: dict[str, Any], reason: str) -> None:
    path = write_study(tmp_path, study_of({"small": GOOD_JOB}, defaults=GOOD_JOB, **fields))
    with pytest.raises(StudyError) as caught:
        load_registry(tmp_path)
    assert str(caught.value).startswith(f"{path}: ")
    assert reason in str(caught.value)


def test_resources_of_a_job_stand_over_its_study_s(tmp_path: Path) -> None:
    own = {**GOOD_JOB, "resources": {"nodes": 2}}
    asked = {"processes": 4, "nodes": 1, "priority": 5}
    write_study(tmp_path, study_of({"a": GOOD_JOB, "b": own}, resources=asked))
    registry = load_registry(tmp_path)
    assert registry.job("a").resources == ResourceRequest(processes=4, nodes=1, priority=5)
    assert registry.job("b").resources == ResourceRequest(processes=4, nodes=2, priority=5)
    assert registry.job("a").hyperparameters == HyperparameterJob(**GOOD_JOB)


@pytest.mark.parametrize(
    ("resources", "reason"),
    [
        ({"gpus": 2}, "gpus=2: Extra inputs are not permitted; allowed: processes, nodes"),
        ({"strategy": "horovod"}, "strategy='horovod': Input should be"),
        ({"processes": 0}, "processes=0: Input should be greater than or equal to 1"),
        ({"gpus_per_process": -1}, "gpus_per_process=-1: allowed: auto, or a whole number"),
        ({"strategy": "single", "nodes": 2}, "strategy='single' with processes=1, nodes=2"),
        ({"strategy": "fsdp2", "gpus_per_process": 0}, "strategy='fsdp2' with gpus_per_process=0"),
        ("many", "resources='many'; allowed: fields and values"),
    ],
)
def test_wrong_resources_are_named(tmp_path: Path, resources: Any, reason: str) -> None:
    path = write_study(tmp_path, study_of({"a": {**GOOD_JOB, "resources": resources}}))
    with pytest.raises(StudyError) as caught:
        load_registry(tmp_path)
    assert str(caught.value).startswith(f"{path}: job a: resources")
    assert reason in str(caught.value)


def test_a_study_may_be_for_one_base_model(tmp_path: Path) -> None:
    write_study(tmp_path, study_of({"a": GOOD_JOB}, base_model="google/gemma-2-9b-it"))
    job = load_registry(tmp_path).job("a")
    job.require_base_model("google/gemma-2-9b-it")
    job.require_base_model("/models/gemma-2-9b-it/")
    with pytest.raises(StudyError) as caught:
        job.require_base_model("smollm2-135m-instruct")
    for word in ("'a'", "small", "google/gemma-2-9b-it", "RETAIL_BASE_MODEL=smollm2-135m-instruct"):
        assert word in str(caught.value)


def test_a_folder_of_one_s_own_is_added(tmp_path: Path, shipped: Registry) -> None:
    write_study(tmp_path, study_of({"mine": GOOD_JOB}))
    registry = load_registry(SHIPPED_STUDIES, tmp_path)
    assert set(registry.jobs) == {*shipped.jobs, "mine"}


def test_a_folder_given_twice_counts_once(shipped: Registry) -> None:
    assert load_registry(SHIPPED_STUDIES, SHIPPED_STUDIES / ".." / "studies") == shipped


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (study_of({"job-0": GOOD_JOB}), "job 'job-0' exists in study 'retail' too"),
        (study_of({"a": GOOD_JOB}, study="retail"), "study 'retail' exists in another file"),
        (study_of({"a": GOOD_JOB}, study="rank-and-rate"), "search 'rank-and-rate' exists in"),
    ],
)
def test_a_name_of_a_shipped_study_is_taken(tmp_path: Path, content: str, reason: str) -> None:
    path = write_study(tmp_path, content)
    with pytest.raises(StudyError) as caught:
        load_registry(SHIPPED_STUDIES, tmp_path)
    assert str(caught.value).startswith(f"{path}: {reason}")


def test_what_is_worth_a_second_look_is_noted(tmp_path: Path, shipped: Registry) -> None:
    assert notes(shipped) == []
    jobs = {"a": GOOD_JOB | {"lora_r": 24}, "b": GOOD_JOB}
    write_study(tmp_path, study_of(jobs))
    rank, alpha = notes(load_registry(tmp_path))
    assert rank == "job a: lora_r=24 takes the memory of 32 when served"
    assert alpha.startswith("study small: lora_r varies at lora_alpha=16")
