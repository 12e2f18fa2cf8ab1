"""The guide's tables of what is carried are true, and those of the recorded files."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest

from migrate import guide_tables
from migrate.legacy_files import CASES, DISTINCT, OWN, load, path_of, state_of
from surefoot.migrate import restore

pytestmark = pytest.mark.once

CHECKPOINTS = [
    case if case in DISTINCT else pytest.param(case, marks=pytest.mark.extended)
    for case in CASES
    if guide_tables.recorded(case, "h5") and guide_tables.recorded(case, "checkpoint")
    # The first needs a layer of the user's; only checkpoints have the second's momentum product.
    if case not in ("radam_operations", "nadam_2_11")
]


@pytest.mark.parametrize("page", guide_tables.PAGES, ids=lambda page: page.name)
def test_the_tables_are_those_of_the_data(page: pathlib.Path) -> None:
    computed = guide_tables.PAGES[page]()
    assert guide_tables.parts(page)[1] == computed, "python -m migrate.guide_tables writes them"


@pytest.mark.parametrize("case", CHECKPOINTS)
def test_a_checkpoint_holds_what_the_whole_model_holds(case: str) -> None:
    wanted = load(case, "h5")
    model = load(case, "h5")
    model.optimizer.build(model.trainable_variables)
    for variable in [*model.weights, *model.optimizer.variables]:
        if variable.shape and "hyper" not in variable.path:
            variable.assign(np.full(variable.shape, 0.5))
    restore(path_of(case, "checkpoint"), model, custom_objects=OWN)
    assert type(model.optimizer) is type(wanted.optimizer)
    for found, value in zip(model.get_weights(), wanted.get_weights(), strict=True):
        np.testing.assert_array_equal(found, value)
    for found, value in zip(state_of(model.optimizer), state_of(wanted.optimizer), strict=True):
        np.testing.assert_array_equal(found, value)
