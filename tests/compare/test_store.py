"""The trials on disk: cut short anywhere, and gone on with."""

import json

import pytest

from compare.runs import HEADER, record
from surefoot.compare import UsageError
from surefoot.compare.search.space import Setting
from surefoot.compare.settings import asked_before
from surefoot.compare.trials.store import FILE, Store, Trial, read

pytestmark = pytest.mark.once


def write(folder, results):
    store = Store(folder)
    store.start(HEADER)
    store.plan("search", ["a"], [Setting(0.1)], list(range(len(results))))
    for seed, result in enumerate(results):
        store.add(Trial("a", 0.1, seed), record(result))
    return store


def test_what_is_written_is_read(tmp_path):
    store = write(tmp_path, [0.5, None])
    store.add_failure("b", "no")
    run = read(tmp_path / FILE)
    assert run.records == {Trial("a", 0.1, 0): record(0.5), Trial("a", 0.1, 1): record(None)}
    assert run.failures == {"b": "no"}
    assert run.planned == set(run.records)


def test_trials_of_before_there_were_schedules_and_settings_are_read(tmp_path):
    lines = [
        {"kind": "run", "format": 1, **{k: v for k, v in HEADER.items() if k != "schedule"}},
        {"kind": "plan", "optimizers": ["a"], "learning_rates": [0.1, 1.0], "seeds": [0]},
        {"kind": "trial", "optimizer": "a", "learning_rate": 0.1, "seed": 0, **record(0.5)},
    ]
    (tmp_path / FILE).write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = read(tmp_path / FILE)
    assert run.planned == {Trial("a", 0.1, 0), Trial("a", 1.0, 0)}
    assert run.records == {Trial("a", 0.1, 0): record(0.5)}
    assert run.header["schedule"] == "constant"
    assert asked_before(tmp_path)["schedule"] == "constant"


def test_all_hyperparameters_identify_a_trial(tmp_path):
    store = write(tmp_path, [])
    settings = [Setting(0.1, (("beta_1", 0.9), ("weight_decay", x))) for x in (0.001, 0.01)]
    store.plan("search", ["a"], settings, [0])
    for i, setting in enumerate(settings):
        store.add(Trial.at("a", setting, 0), record(i / 2))
    run = read(tmp_path / FILE)
    assert run.records == store.run.records
    assert run.planned == set(run.records)
    assert run.settings("a", "search") == [Setting(0.1), *settings][-2:]


def test_cut_off_at_any_byte_it_loses_only_the_line_being_written(tmp_path):
    write(tmp_path, [0.5, 0.6])
    whole = (tmp_path / FILE).read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    for length in range(0, len(whole) + 1, 7):
        (tmp_path / FILE).write_bytes(whole[:length])
        complete = sum(end <= length for end in ends)
        store = Store(tmp_path)
        store.resume(HEADER)
        assert len(store.run.records) == max(complete - 2, 0)
        # What is added now starts on a line of its own.
        store.add(Trial("a", 0.1, 9), record(0.9))
        assert Trial("a", 0.1, 9) in read(tmp_path / FILE).records


@pytest.mark.parametrize("name", ["task", "steps", "backend", "data_sha256", "threads", "schedule"])
def test_a_different_run_is_not_gone_on_with(tmp_path, name):
    write(tmp_path, [0.5])
    before = (tmp_path / FILE).read_bytes()
    with pytest.raises(UsageError, match=f"its {name} is"):
        Store(tmp_path).resume({**HEADER, name: "other"})
    assert (tmp_path / FILE).read_bytes() == before


def test_a_new_start_keeps_the_old_trials_and_their_report(tmp_path):
    for i in range(3):
        write(tmp_path, [0.1 * i])
        if i < 2:
            (tmp_path / "report.html").write_text(str(i))
    for i, name in enumerate(("trials.1", "trials.2", "trials")):
        (result,) = read(tmp_path / f"{name}.jsonl").records.values()
        assert result["result"] == 0.1 * i
    assert {file.name: file.read_text() for file in tmp_path.glob("report*")} == {
        "report.1.html": "0",
        "report.2.html": "1",
    }


@pytest.mark.parametrize(
    "content", ["", "{}\n", "not json\n", '{"kind": "run", "format": 99}\n', "[]\n"]
)
def test_a_damaged_file_is_named(tmp_path, content):
    (tmp_path / FILE).write_text(content)
    with pytest.raises(UsageError, match=FILE):
        read(tmp_path / FILE)


def test_damage_in_the_middle_is_not_passed_over(tmp_path):
    write(tmp_path, [0.5])
    with (tmp_path / FILE).open("a") as file:
        file.write("{\n" + json.dumps({"kind": "failure", "optimizer": "b", "message": ""}) + "\n")
    with pytest.raises(UsageError, match="line 4"):
        read(tmp_path / FILE)
