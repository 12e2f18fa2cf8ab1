"""`surefoot compare` and `surefoot report` as a user runs them."""

import json
import os
import re
import signal
import statistics
import subprocess
import time
from pathlib import Path

import pytest

from compare.conftest import command, rows, wait_for_trials, without_times
from surefoot.cli import main
from surefoot.compare.trials.store import FIRST_FRESH_SEED, read

RATES = "0.03,0.1,10"
OPTIMIZERS = ("adam", "radam(beta_2=0.9)+warmup(0.1)", "sgd")


@pytest.fixture(scope="module")
def finished(surefoot, task_file, tmp_path_factory):
    """A small comparison with an optimizer of one's own, run once for the tests below."""
    folder = tmp_path_factory.mktemp("compare") / "out"
    own = f"{task_file}:Mine(momentum=0.5)"
    done = surefoot(
        *("compare", f"{task_file}:line", "--optimizers", *OPTIMIZERS, own),
        *("--learning-rates", RATES, "--seeds", 2, "--fresh-seeds", 2, "--jobs", 2),
        *("--out", folder),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


def test_it_answers_on_the_terminal(finished):
    folder, output = finished
    assert "RectifiedAdam(beta_2=0.9)+warmup(0.1)" in output
    assert "has the lowest mean validation loss" in output
    assert "24 of 24 trials" in output
    assert str(folder / "report.html") in output


def test_the_answer_follows_from_results_csv(finished):
    folder, _ = finished
    table = rows(folder)
    # Two seeds at each learning rate, and two fresh ones at each optimizer's best.
    assert len(table) == 4 * 3 * 2 + 4 * 2
    searched = [row for row in table if int(row["seed"]) < FIRST_FRESH_SEED]
    fresh = [row for row in table if int(row["seed"]) >= FIRST_FRESH_SEED]
    # SGD at learning rate 10 is far beyond stability.
    assert {
        r["status"] for r in table if r["optimizer"] == "SGD" and float(r["learning_rate"]) == 10
    } == {"diverged"}
    (section,) = json.loads((folder / "results.json").read_text())["sections"]
    for optimizer in section["summary"]["optimizers"]:
        means = {}
        for rate in (0.03, 0.1, 10.0):
            results = [
                float(row["result"])
                for row in searched
                if row["optimizer"] == optimizer["label"]
                and float(row["learning_rate"]) == rate
                and row["result"]
            ]
            if len(results) == 2:
                means[rate] = statistics.fmean(results)
        best = min(means, key=means.__getitem__)
        assert optimizer["best"]["learning_rate"] == best
        results = [float(r["result"]) for r in fresh if r["optimizer"] == optimizer["label"]]
        assert len(results) == 2
        assert optimizer["best"]["mean"] == pytest.approx(statistics.fmean(results), rel=1e-12)
    assert "2 fresh seeds" in section["verdict"][0]


def test_the_report_is_complete_in_itself(finished):
    folder, _ = finished
    page = (folder / "report.html").read_text()
    (section,) = json.loads((folder / "results.json").read_text())["sections"]
    assert all(label in page for label in ("Adam", "SGD", "own.py:Mine"))
    assert len(section["verdict"]) >= 3
    own_part = page[: page.index("<script>")]
    assert "http:" not in own_part
    assert "https:" not in own_part


@pytest.mark.once
def test_killed_and_resumed_it_gives_the_same_numbers(surefoot, task_file, tmp_path):
    arguments = ("compare", f"{task_file}:slow", "--jobs", 1, "--fresh-seeds", 3, "--out")
    through = surefoot(*arguments, tmp_path / "through")
    assert through.returncode == 0, through.stderr

    killed = subprocess.Popen(command(*arguments, tmp_path / "killed"), stdout=subprocess.DEVNULL)
    trials = wait_for_trials(killed, tmp_path / "killed", 2)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    before = trials.read_text()

    # What is not given is as it was.
    resumed = surefoot("compare", "--out", tmp_path / "killed", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert "are already done" in resumed.stdout
    after = trials.read_text()
    whole_lines = before[: before.rfind("\n") + 1]
    assert after.startswith(whole_lines)
    assert after.count('"kind": "trial"') == len(rows(tmp_path / "through"))
    assert without_times(tmp_path / "killed") == without_times(tmp_path / "through")


@pytest.mark.once
def test_ctrl_c_is_one_line_also_while_workers_start(task_file, tmp_path):
    arguments = command("compare", f"{task_file}:slow", "--jobs", 2, "--out", tmp_path / "out")
    running = subprocess.Popen(
        arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    children = Path(f"/proc/{running.pid}/task/{running.pid}/children")
    deadline = time.monotonic() + 60
    # Python's resource tracker, and two workers, which now import Keras.
    while len(children.read_text().split()) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(1)
    for child in children.read_text().split():
        os.kill(int(child), signal.SIGINT)
    time.sleep(1)
    running.send_signal(signal.SIGINT)
    _, error = running.communicate(timeout=60)
    assert running.returncode == 130
    assert error.startswith("stopped; the finished trials are in")
    assert error.count("\n") == 1


@pytest.mark.once
def test_an_optimizer_that_cannot_be_trained_does_not_stop_the_others(
    surefoot, task_file, tmp_path
):
    broken = task_file.parent / "broken.py"
    broken.write_text(
        "import os\nimport keras\n\n\n"
        "class Broken(keras.optimizers.SGD):\n"
        "    def update_step(self, gradient, variable, learning_rate):\n"
        "        raise RuntimeError('no [step] at all')\n\n\n"
        "class Deadly(keras.optimizers.SGD):\n"
        "    def update_step(self, gradient, variable, learning_rate):\n"
        "        os._exit(9)\n"
    )
    done = surefoot(
        *("compare", f"{task_file}:line", "--optimizers"),
        *(f"{broken}:Deadly", f"{broken}:Broken", f"{broken}:Broken(momentum=0.5)", "sgd"),
        *("--learning-rates", "0.01,0.1", "--seeds", 1, "--out", tmp_path),
    )
    assert done.returncode == 1
    assert "broken.py:Broken at 1e-2, seed 0, failed" in done.stdout
    assert "RuntimeError: no [step] at all (broken.py, line 7)" in done.stdout
    # Of the same fault there is one traceback, and it begins where the user's file does.
    assert done.stdout.count("Traceback (most recent call last)") == 1
    assert re.search(r'Traceback .*\n  File ".*broken.py", line 7, in update_step', done.stdout)
    # As when the system kills a process for its memory.
    assert "its process ended with status 9" in done.stdout
    assert "SGD at learning rate" in done.stdout
    assert {row["optimizer"] for row in rows(tmp_path)} == {"SGD"}


@pytest.mark.once
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--learning-rates", "0:1:3"], "learning rates"),
        (["--optimizers", "adam+hotter"], "unknown modifier"),
        (["--optimizers", "adam,adam"], "given twice"),
        (["--backend", "theano"], "tensorflow"),
        (["--seeds", "0"], "--seeds"),
        (["--steps", "1.5"], "--steps"),
        (["--jobs", "-1"], "--jobs"),
        (["--threads", "0"], "--threads"),
        (["--search", "random"], "known are qmc, tpe, grid"),
        (["--budget", "soon"], "30m"),
        (["--add", "sgd"], "there is none in"),
    ],
)
def test_wrong_requests_are_refused_at_once(capsys, tmp_path, arguments, expected):
    assert main(["compare", *arguments, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.once
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["digit"], "unknown task 'digit'"),
        (["OWN:missing"], "has no 'missing'"),
        (["OWN:model"], "a surefoot.compare.Task is needed"),
        (["OWN:broken"], "RuntimeError: the data are not there (own.py, line"),
        (["OWN:line", "--optimizers", "radamm"], "Did you mean 'radam'?"),
        (["OWN:line", "--optimizers", "radam(beta_2=2.0)"], "beta_2"),
        (["OWN:line", "--optimizers", "lookahead"], "lookahead(adam)"),
        (["OWN:line", "--optimizers", "adam(learning_rate=1.0)"], "--learning-rates"),
        (["OWN:line", "--optimizers", "sgd", "SGD"], "given twice"),
    ],
)
def test_what_only_keras_knows_is_wrong_is_refused_too(
    capsys, tmp_path, task_file, arguments, expected
):
    arguments = [each.replace("OWN", str(task_file)) for each in arguments]
    assert main(["compare", *arguments, "--jobs", "1", "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1


@pytest.mark.once
def test_a_run_is_not_overwritten_unasked(finished, task_file, capsys):
    folder, _ = finished
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert main(["compare", f"{task_file}:line", "--out", str(folder)]) == 2
    error = capsys.readouterr().err
    assert "holds a run; go on with it by --resume, replace it by --overwrite" in error
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.once
def test_a_full_disk_is_one_line_and_keeps_the_finished_trials(task_file, tmp_path):
    """The system refuses to let a file grow beyond a limit, as it does on a full disk."""
    arguments = command("compare", f"{task_file}:line", "--jobs", 1, "--out", tmp_path)
    limited = ["sh", "-c", 'ulimit -f 16; exec "$@"', "sh", *arguments]
    done = subprocess.run(limited, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "surefoot: error: File too large; the finished trials are in" in done.stderr
    assert len(read(tmp_path / "trials.jsonl").records) > 1
    assert main(["report", str(tmp_path)]) == 0
    assert rows(tmp_path)


@pytest.mark.once
def test_report_rebuilds_and_merges(finished, surefoot, task_file, tmp_path, capsys):
    folder, _ = finished
    more = surefoot(
        *("compare", f"{task_file}:line", "--optimizers", "nadam", "--learning-rates", RATES),
        *("--seeds", 2, "--fresh-seeds", 2, "--jobs", 2, "--out", tmp_path / "more"),
    )
    assert more.returncode == 0, more.stderr
    merged = tmp_path / "merged"
    assert main(["report", str(folder), str(tmp_path / "more"), "--out", str(merged)]) == 0
    (section,) = json.loads((merged / "results.json").read_text())["sections"]
    assert len(section["summary"]["optimizers"]) == 5
    assert len(rows(merged)) == (24 + 8) + (6 + 2)

    before = (folder / "results.csv").read_bytes()
    (folder / "results.csv").unlink()
    assert main(["report", str(folder)]) == 0
    assert (folder / "results.csv").read_bytes() == before

    capsys.readouterr()
    assert main(["report", str(tmp_path / "nothing")]) == 2
    assert main(["report", str(folder), str(tmp_path / "more")]) == 2
    assert capsys.readouterr().err.count("surefoot: error:") == 2
