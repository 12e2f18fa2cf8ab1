"""What holds for the whole tree, whoever writes in it."""

from __future__ import annotations

import ast
import graphlib
import inspect
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import pytest

import family
import golden
import scenarios
import surefoot
import surefoot.migrate

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "surefoot"
MODULES = sorted(SOURCE.rglob("*.py"))
BACKENDS = {"tensorflow", "jax", "torch"}
LINES = 350
"""Above this a file has more than one responsibility, or will soon."""

LAYERS = (
    ("rule",),
    ("arguments",),
    ("variables",),
    ("engines",),
    ("state",),
    ("legacy_api",),
    ("base",),
    ("schedules",),
    ("optimizers",),
    ("memory_plan",),
    ("callbacks", "diagnostics", "agreement", "default_backend"),
    ("__init__",),
    ("compare", "migrate", "info"),
    ("cli",),
    ("__main__",),
)
"""The folders and modules of the package, the lowest first: each imports only what is below it."""

pytestmark = pytest.mark.once


def module_id(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports(tree: ast.AST) -> Iterator[tuple[str, bool]]:
    """First names of what is imported, and whether at the top of the module."""
    at_top = set(map(id, ast.iter_child_nodes(tree)))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name.partition(".")[0], id(node) in at_top
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0], id(node) in at_top


@pytest.mark.parametrize("path", MODULES, ids=module_id)
def test_only_engines_import_a_backend(path: Path) -> None:
    folder, *rest = path.relative_to(SOURCE).parts
    found = {
        (name, at_top) for name, at_top in imports(ast.parse(path.read_text())) if name in BACKENDS
    }
    if folder == "engines":
        assert {name for name, _ in found} <= {rest[0]}
    elif folder == "migrate":
        # Old SavedModels and checkpoints are TensorFlow's; it is needed where one is read.
        assert found <= {("tensorflow", False)}
    else:
        assert not found


def module_name(path: Path) -> str:
    return ".".join(("surefoot", *path.relative_to(SOURCE).with_suffix("").parts))


def imported_modules(path: Path) -> Iterator[str]:
    """The package's own modules that one imports, also where only a type checker does."""
    names = set(map(module_name, MODULES))
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            sources = [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            sources = [(node.module, alias.name) for alias in node.names]
        else:
            continue
        for module, name in sources:
            candidates = (f"{module}.{name}", f"{module}.{name}.__init__", module)
            found = next((c for c in candidates if c in names), f"{module}.__init__")
            if found in names:
                yield found


def layer_of(module: str) -> int:
    part = module.split(".")[1]
    (found,) = (index for index, layer in enumerate(LAYERS) if part in layer)
    return found


@pytest.mark.parametrize("path", MODULES, ids=module_id)
def test_imports_go_down_the_layers(path: Path) -> None:
    module = module_name(path)
    own_folder = module.split(".")[1]
    wrong = [
        name
        for name in imported_modules(path)
        if name.split(".")[1] != own_folder and layer_of(name) >= layer_of(module)
    ]
    assert not wrong, f"{module} imports what is not below it: {wrong}"


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {module_name(path): set(imported_modules(path)) for path in MODULES}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_import_loads_the_optimizers_and_nothing_else() -> None:
    program = "import keras, sys; before = set(sys.modules); import surefoot;"
    program += "print(*sorted(set(sys.modules) - before));"
    # It comes when it is asked for, and can be called.
    program += "import inspect; assert 'task' in inspect.signature(surefoot.compare).parameters"
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    loaded = done.stdout.split()
    assert "surefoot.optimizers.nadam" in loaded
    # No package that Keras has not loaded anyway, and of ours none that a command alone needs.
    assert not [name for name in loaded if name.partition(".")[0] != "surefoot"]
    assert not {name.split(".")[1] for name in loaded if "." in name} & {
        "cli",
        "compare",
        "migrate",
    }


@pytest.mark.parametrize(
    "path",
    [
        *MODULES,
        *sorted((ROOT / "tests").rglob("*.py")),
        *sorted((ROOT / "benchmarks").rglob("*.py")),
        *sorted((ROOT / "evidence").rglob("*.py")),
    ],
    ids=module_id,
)
def test_file_is_of_readable_size(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LINES


def documented(section: str, docstring: str) -> list[str]:
    """Names that a section of a Google-style docstring explains, in order."""
    text = re.search(rf"^{section}:\n((?:    .*\n|\n)+)", docstring + "\n", re.M)
    assert text, f"no section {section}"
    return re.findall(r"^    (\*{0,2}\w+)(?: \(.*\))?:", text[1], re.M)


@pytest.mark.parametrize("optimizer", family.OPTIMIZERS)
def test_signature_docstring_and_config_name_the_same(
    optimizer: type[keras.optimizers.Optimizer],
) -> None:
    docstring = inspect.cleandoc(optimizer.__doc__ or "")
    parameters = [
        f"**{parameter.name}" if parameter.kind is parameter.VAR_KEYWORD else parameter.name
        for parameter in inspect.signature(optimizer).parameters.values()
    ]
    assert documented("Args", docstring) == parameters
    assert documented("Raises", docstring)
    config = family.made(optimizer).get_config()
    assert set(config) >= {name for name in parameters if name != "**kwargs"}
    # What stands under **kwargs is explained there by name.
    undocumented = {
        name for name in set(config) - set(parameters) if f"``{name}``" not in docstring
    }
    if optimizer is surefoot.Ranger:
        return  # Its docstring refers to RectifiedAdam's for them.
    assert not undocumented


def public_surface() -> Iterator[tuple[str, Callable[..., object], str]]:
    """Public functions, and our own public methods of public classes, with their docstrings."""
    for module in (surefoot, surefoot.migrate):
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isfunction(value):
                yield name, value, inspect.getdoc(value) or ""
            elif inspect.isclass(value):
                for method_name, method in inspect.getmembers(value, inspect.isfunction):
                    if method.__module__.startswith("surefoot") and method_name[0] != "_":
                        yield f"{name}.{method_name}", method, inspect.getdoc(method) or ""


def test_what_raises_says_so() -> None:
    silent = []
    for name, function, docstring in public_surface():
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
        raises = any(isinstance(node, ast.Raise) and node.exc for node in ast.walk(tree))
        if raises and "Raises:" not in docstring:
            silent.append(name)
    assert not silent


def test_engines_have_no_examples() -> None:
    """They would not run: pytest does not look for them, because it would import every backend."""
    assert not [p for p in (SOURCE / "engines").rglob("*.py") if ">>>" in p.read_text()]


def test_every_public_name_is_documented() -> None:
    assert not [name for name, _, docstring in public_surface() if not docstring]


@pytest.mark.parametrize("optimizer", family.OPTIMIZERS)
def test_type_checkers_know_the_arguments(optimizer: type[keras.optimizers.Optimizer]) -> None:
    module = sys.modules[optimizer.__module__]
    keywords = getattr(module, f"{optimizer.__name__}Arguments").__optional_keys__
    *parameters, _ = inspect.signature(optimizer).parameters
    required = family.required_arguments(optimizer)
    config = family.made(optimizer).get_config()
    assert set(config) - set(parameters) <= keywords
    for name in keywords:
        optimizer.from_config(required | {name: config.get(name, 0)})  # Unknown, it would raise.


@pytest.mark.parametrize("optimizer", family.OPTIMIZERS)
def test_every_optimizer_is_described_and_checked(
    optimizer: type[keras.optimizers.Optimizer],
) -> None:
    module = optimizer.__module__.rpartition(".")[2]
    page = ROOT / "docs" / "optimizers" / f"{module}.md"
    assert page.read_text().startswith(f"# {optimizer.__name__}\n")
    assert optimizer.__name__ in (ROOT / "CHANGELOG.md").read_text()
    kinds = {scenario.kind for scenario in scenarios.SCENARIOS}
    kinds |= {case.optimizer for case in golden.CASES}
    # Lookahead is checked as a part of Ranger.
    assert any(issubclass(getattr(surefoot, kind), optimizer) for kind in kinds)
