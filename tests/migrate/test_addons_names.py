"""Names of TensorFlow Addons that surefoot lacks: errors that say what became of them."""

from __future__ import annotations

import importlib
import importlib.util
import json
import pathlib
import re

import pytest

import surefoot
import surefoot as tfa
from surefoot.legacy_api.heirs import HEIRS, heir

pytestmark = pytest.mark.once

EXPORTS: dict[str, list[str]] = json.loads(
    (pathlib.Path(__file__).parent / "data" / "addons_exports.json").read_text()
)
TEXTS = [text for names in HEIRS.values() for text in names.values()]
NAMES = sorted({name for text in TEXTS for name in re.findall(r"`([a-z_]+(?:\.\w+)+)", text)})
# Not among the packages that the tests install.
NOT_INSTALLED = ("keras_hub", "keras_rs", "tqdm")


def test_each_exported_name_has_an_entry_and_no_other_has() -> None:
    listed = {
        module: sorted(name for group in names for name in group.split())
        for module, names in HEIRS.items()
    }
    assert listed == {module: sorted(EXPORTS[module]) for module in listed}
    assert EXPORTS.keys() == listed.keys()


@pytest.mark.parametrize("name", [n for n in NAMES if n.split(".")[0] not in NOT_INSTALLED])
def test_heirs_exist(name: str) -> None:
    package, *path = name.split(".")
    found = importlib.import_module(package)
    for i, part in enumerate(path):
        if not hasattr(found, part):
            importlib.import_module(".".join([package, *path[: i + 1]]))
        found = getattr(found, part)


def test_there_are_heirs_to_look_for() -> None:
    packages = {name.split(".")[0] for name in NAMES}
    assert {"keras", "surefoot", "optax", "scipy", *NOT_INSTALLED} <= packages
    assert len(NAMES) > 50


OURS = {("optimizers", n) for n in EXPORTS["optimizers"] if n in vars(tfa.optimizers)}


@pytest.mark.parametrize("module", EXPORTS)
def test_errors_name_the_heirs(module: str) -> None:
    for name in EXPORTS[module]:
        text = heir(module, name)
        assert text
        if (module, name) in OURS:
            assert hasattr(tfa.optimizers, name)
            continue
        with pytest.raises(AttributeError) as error:
            getattr(getattr(tfa, module), name)
        assert name in str(error.value)
        assert text in str(error.value)


def test_modules_stay_modules() -> None:
    for name in ("losses", "nothing", "__wrapped__", "_private"):
        assert not hasattr(surefoot, name)
        assert getattr(surefoot, name, None) is None
        assert not hasattr(surefoot.optimizers, name)
        assert name not in dir(surefoot)
    with pytest.raises(AttributeError, match=r"^module 'surefoot' has no attribute 'nothing'$"):
        _ = surefoot.nothing  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match=r"^module 'surefoot\.optimizers' has no .* 'Adam'$"):
        _ = surefoot.optimizers.Adam  # type: ignore[attr-defined]
    names: dict[str, object] = {}
    exec("from surefoot import *", names)
    assert names["Nadam"] is surefoot.Nadam
    with pytest.raises(ImportError):
        exec("from surefoot import losses")
