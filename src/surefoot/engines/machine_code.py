"""Machine code from a few words of Python, by LLVM.

Backends call functions by their addresses, and these here must read and write memory. They are
compiled at the first step of a program. Numba, which would understand them as they are, takes two
seconds to load and compile what LLVM alone compiles in a twentieth of one.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
from collections.abc import Mapping
from types import ModuleType

from surefoot.engines.language import Foreign, translated


def is_available() -> bool:
    """Whether LLVM is installed."""
    return _llvm() is not None


_OLDEST_LLVM = 20
"""With pointers of one type."""


@functools.cache
def _llvm() -> ModuleType | None:
    try:
        llvm = importlib.import_module("llvmlite.binding")
    except ImportError:
        return None
    if llvm.llvm_version_info[0] < _OLDEST_LLVM or not _mathematics():
        return None
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm


@functools.cache
def _mathematics() -> dict[str, Foreign]:
    """What LLVM itself would look for in the same library; nothing if there is none."""
    library = c_library()
    found = {}
    for name in ("exp", "expm1", "log1p"):
        function = getattr(library, name, None)
        if function is None:
            return {}
        function.restype, function.argtypes = ctypes.c_double, [ctypes.c_double]
        found[name] = Foreign.of(function)
    return found


@functools.cache
def c_library() -> ctypes.CDLL | None:
    """The functions of C that this process has loaded."""
    try:
        return ctypes.CDLL(None)
    except (OSError, TypeError):  # Windows knows no such thing
        pass
    try:
        return ctypes.CDLL("ucrtbase")
    except OSError:
        return None


def _features(llvm: ModuleType) -> str:
    """What this processor can do besides what all of its kind can."""
    try:
        return str(llvm.get_host_cpu_features().flatten())
    except RuntimeError:  # where LLVM cannot tell
        return ""


class MachineCode:
    """The functions of a source, compiled; what they are called by holds as long as this.

    Args:
        source: Their definitions, in the language of `surefoot.engines.language`.
        constants: Words that they may name.
        foreign: Functions of C that they may call by these names, besides ``exp``, ``expm1`` and
            ``log1p`` of floats.

    Raises:
        RuntimeError: If LLVM is not installed.
        SyntaxError: If the source holds what the language has not.
    """

    def __init__(
        self, source: str, constants: Mapping[str, int], foreign: Mapping[str, Foreign]
    ) -> None:
        llvm = _llvm()
        if llvm is None:
            raise RuntimeError("llvmlite, with LLVM 20 or newer, is not installed.")
        module = llvm.parse_assembly(translated(source, constants, {**_mathematics(), **foreign}))
        # The addresses in the code are those of this process, and so is the processor.
        machine = llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(
            cpu=llvm.get_host_cpu_name(),
            features=_features(llvm),
            opt=3,
            codemodel="jitdefault",
            jit=True,
        )
        options = llvm.create_pipeline_tuning_options(speed_level=3)
        options.loop_vectorization = True
        passes = llvm.create_pass_builder(machine, options)
        passes.getModulePassManager().run(module, passes)
        self._engine = llvm.create_mcjit_compiler(module, machine)
        self._engine.finalize_object()

    def address(self, name: str) -> int:
        """Where a function is."""
        return int(self._engine.get_function_address(name))
