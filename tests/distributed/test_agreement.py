"""Workers that differ are named before the first step, by the documented scripts."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import pytest

import surefoot
from distributed import launching
from surefoot.agreement import require_agreement

SCRIPTS = Path(__file__).parents[2] / "docs" / "distributed"
SECONDS = 120
"""Much less than what workers that wait for each other would take."""


@pytest.mark.parametrize(
    "script",
    [
        pytest.param("train_tensorflow.py", marks=pytest.mark.backends("tensorflow")),
        pytest.param("train_jax.py", marks=pytest.mark.backends("jax")),
    ],
)
def test_processes_that_disagree_are_named(tmp_path: Path, script: str) -> None:
    train = tmp_path / "train.py"
    train.write_text(
        "import os, runpy, sys\n"
        f"sys.argv = ['train', {str(tmp_path / 'checkpoint.keras')!r}]\n"
        "sys.argv += ['--learning-rate', '0.1'] if os.environ['RANK'] == '1' else []\n"
        f"runpy.run_path({str(SCRIPTS / script)!r}, run_name='__main__')\n"
    )
    done = launching.run(SCRIPTS / "launch.py", "--workers", 2, train, timeout=SECONDS)
    assert done.returncode != 0
    assert "Workers 0 and 1 differ in optimizer.learning_rate: 0.02 and 0.1." in done.stderr
    assert "Restart all workers" in done.stderr
    assert not (tmp_path / "checkpoint.keras").exists()


class Told:
    """Stands for the communication: the other workers' texts are known beforehand."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def __call__(self, text: str) -> list[str]:
        self.texts.append(text)
        return self.texts


@pytest.mark.once
def test_the_same_in_other_objects_agrees() -> None:
    gather = Told()
    for _ in range(3):
        schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 5, 0.9)
        require_agreement(surefoot.Lookahead(surefoot.Nadam(schedule)), gather, step=4)
    assert len(gather.texts) == 3
    assert "0x" not in gather.texts[0]
    assert json.loads(gather.texts[0])["step"] == 4


@pytest.mark.once
def test_what_differs_deep_inside_is_named_with_its_worker() -> None:
    gather = Told()
    for rate in (0.1, 0.1):
        require_agreement(surefoot.Lookahead(surefoot.Nadam(rate)), gather, step=4)
    with pytest.raises(ValueError, match=r"Workers 0 and 2 differ in .*learning_rate: 0\.1 and 0"):
        require_agreement(surefoot.Lookahead(surefoot.Nadam(0.2)), gather, step=4)


@pytest.mark.once
def test_another_class_or_step_differs() -> None:
    for other, step, expected in [
        (surefoot.Ranger(0.1), 4, "optimizer.class: 'Nadam' and 'Ranger'"),
        (surefoot.Nadam(0.1), 5, "step: 4 and 5"),
    ]:
        gather = Told()
        require_agreement(surefoot.Nadam(0.1), gather, step=4)
        with pytest.raises(ValueError, match=expected):
            require_agreement(other, gather, step=step)
