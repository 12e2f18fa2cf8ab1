"""Install wheel and sdist as a user would, and try them: `make test-install`.

For each extra, each of the two goes into an empty environment outside the source tree, where
`smoke.py` trains a step, the commands are run, and a type checker reads a user's files. Nothing of
another backend is there.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
EXTRAS = ("jax", "torch", "tensorflow", "jax,compare")
KINDS = {"wheel": "*.whl", "sdist": "*.tar.gz"}
# Versions are the lock's, so that the outcome does not change overnight, and so that PyTorch
# and TensorFlow are of the builds that the other tests had.
CONSTRAINTS = ROOT / "requirements-dev.lock"


class Environment:
    """An empty virtual environment, in a folder of its own that is not the source tree."""

    def __init__(self, folder: Path):
        self.folder = folder
        subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
        self.bin = folder / "venv" / "bin"
        # Neither the tree nor a chosen backend may help.
        self.variables = {
            name: value
            for name, value in os.environ.items()
            if name not in ("PYTHONPATH", "KERAS_BACKEND", "VIRTUAL_ENV")
        } | {"KERAS_HOME": str(folder / "keras-home"), "TF_CPP_MIN_LOG_LEVEL": "3"}

    def run(self, program: str, *arguments: str | Path) -> str:
        """What a program of the environment prints; an error if it fails."""
        done = subprocess.run(
            [self.bin / program, *arguments],
            cwd=self.folder,
            env=self.variables,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            failed = f"failed: {program} {' '.join(map(str, arguments))}"
            sys.exit("\n".join((failed, done.stdout, done.stderr)))
        return done.stdout


def built(kind: str, folder: Path) -> Path:
    """Build a wheel or an sdist of the tree."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", folder]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.glob(KINDS[kind])
    return path


def try_commands(environment: Environment, version: str) -> None:
    """Both ways to the command line say the version, and every command has its help."""
    for program, arguments in (("python", ["-m", "surefoot"]), ("surefoot", [])):
        assert environment.run(program, *arguments, "--version") == f"surefoot {version}\n"
        assert "examples:" in environment.run(program, *arguments, "--help")
    for command in ("compare", "report", "migrate"):
        assert f"surefoot {command}" in environment.run("surefoot", command, "--help")


def try_types(environment: Environment) -> None:
    """A type checker finds the mistakes in a user's file, and none where there is none."""
    for path in sorted((HERE / "typed").glob("*.py")):
        shutil.copy(path, environment.folder)
        # The checker is the developer's; the types are those of the environment.
        checker = [sys.executable, "-m", "mypy", "--config-file=", "--strict"]
        # Keras is not typed, so its classes and functions are Any.
        checker += ["--disable-error-code=import-untyped", "--disable-error-code=no-any-return"]
        checker += [f"--python-executable={environment.bin / 'python'}", path.name]
        done = subprocess.run(
            checker,
            cwd=environment.folder,
            env=environment.variables,
            capture_output=True,
            text=True,
            check=False,
        )
        reported = set(re.findall(rf"^{path.name}:(\d+): error:", done.stdout, re.M))
        lines = path.read_text().splitlines()
        expected = {str(n) for n, line in enumerate(lines, 1) if line.endswith("# reported")}
        assert reported == expected, (reported ^ expected, done.stdout, done.stderr)


def try_compare(environment: Environment) -> None:
    """The main job, as short as it gets."""
    arguments = "compare diabetes --optimizers adam radam --learning-rates 1e-3"
    arguments += " --steps 4 --seeds 2 --jobs 1 --output report"
    environment.run("surefoot", *arguments.split())
    assert (environment.folder / "report" / "report.html").stat().st_size > 0


def try_install(extra: str, kind: str, distribution: Path, folder: Path) -> None:
    """Install one distribution with one extra, and try it."""
    environment = Environment(folder)
    requirement = f"surefoot[{extra}] @ {distribution.as_uri()}"
    environment.run("pip", "install", "--quiet", "--constraint", CONSTRAINTS, requirement)
    smoke = shutil.copy(HERE / "smoke.py", folder)
    backend = extra.partition(",")[0]
    # Isolated: the folder of the script is not on the path either.
    print(environment.run("python", "-I", smoke, backend).strip().splitlines()[-1])
    version = environment.run("pip", "show", "surefoot").split("Version: ")[1].split()[0]
    try_commands(environment, version)
    try_types(environment)
    if extra.endswith("compare"):
        try_compare(environment)
    print(f"{kind} with [{extra}]: passed", flush=True)


def main() -> None:
    """Try what the command line asks for; everything by default."""
    parser = argparse.ArgumentParser(prog="python -m tests.install", description=__doc__)
    parser.add_argument("--extra", nargs="+", choices=EXTRAS, default=EXTRAS)
    parser.add_argument("--kind", nargs="+", choices=list(KINDS), default=list(KINDS))
    chosen = parser.parse_args()
    for kind in chosen.kind:
        with tempfile.TemporaryDirectory() as dist:
            distribution = built(kind, Path(dist))
            for extra in chosen.extra:
                with tempfile.TemporaryDirectory() as folder:
                    try_install(extra, kind, distribution, Path(folder))


if __name__ == "__main__":
    main()
