"""What workers write reaches who waits for them: all of it, once, and no more than can be read."""

from pathlib import Path

from retail_assistant.launch.logs import MOST_CHARACTERS, LogFollower, following_logs
from retail_assistant_tests.launch.waiting import wait_until


def test_lines_are_told_while_they_are_written_and_to_the_end(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text("of an earlier run\n")
    told: list[str] = []
    with following_logs(tmp_path, told.append), log.open("a") as output:
        output.write("one\ntwo\nthr")
        output.flush()
        wait_until(lambda: bool(told), 20, "the first news")
        assert told == ["log.txt:\none\ntwo"]
        output.write("ee")
    assert told == ["log.txt:\none\ntwo", "log.txt:\nthree"]


def test_each_node_has_a_log_of_its_own(tmp_path: Path) -> None:
    told: list[str] = []
    with following_logs(tmp_path, told.append):
        (tmp_path / "log.txt").write_text("first\n")
        (tmp_path / "log-node-1.txt").write_text("second\n")
    assert sorted(told) == ["log-node-1.txt:\nsecond", "log.txt:\nfirst"]


def test_a_flood_is_cut_in_its_middle(tmp_path: Path) -> None:
    follower = LogFollower(tmp_path)
    (tmp_path / "log.txt").write_text("begin " + "x" * 10 * MOST_CHARACTERS + " end\n")
    (news,) = follower.news()
    assert len(news) < MOST_CHARACTERS + 100
    assert "begin" in news
    assert "end" in news
    assert "left out here" in news
    assert list(follower.news()) == []


def test_what_is_no_text_is_told_all_the_same(tmp_path: Path) -> None:
    follower = LogFollower(tmp_path)
    (tmp_path / "log.txt").write_bytes(b"caf\xe9 \xff\n")
    (news,) = follower.news()
    assert "caf" in news
