"""The order of the main job: every job is trained before an engine answers for them together."""

from retail_assistant.quickstart import main_job, neighbours

PARTITIONS = ["a", "b", "c", "d", "e"]


def test_neighbouring_jobs_are_answered_in_one_run() -> None:
    assert neighbours(["b", "a"], PARTITIONS) == [("a", "b")]
    assert neighbours(["e", "a", "d", "b"], PARTITIONS) == [("a", "b"), ("d", "e")]
    assert neighbours(["c"], PARTITIONS) == [("c",)]


def test_all_is_trained_then_answered_with_the_baselines_then_scored() -> None:
    slices = main_job(["b", "a", "e"], PARTITIONS)
    assert [one.name for one in slices[3:]] == [
        "train b",
        "train a",
        "train e",
        "answer baselines, a, b",
        "answer e",
        "answer_baselines",
        "score b",
        "score a",
        "score e",
        "compare_and_promote",
    ]
    together, alone = slices[6:8]
    assert (together.partition, set(together.tags.values())) == (None, {"a", "b"})
    assert (alone.partition, alone.tags) == ("e", {})
    assert together.config
    assert not alone.config
