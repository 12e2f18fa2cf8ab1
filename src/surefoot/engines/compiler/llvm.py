"""Machine code from LLVM's intermediate representation, compiled once and kept.

One lock guards everything that is compiled and registered with a backend, so that the first steps
of several optimizers in several threads find one piece of code each. What is compiled stays for as
long as the process runs: a backend, or another thread, may call it at any time, also while the
interpreter shuts down.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib
import os
import threading
from types import ModuleType
from typing import Any

LOCK = threading.RLock()
"""Held while something is compiled, or registered with a backend."""

if hasattr(os, "register_at_fork"):
    # A child that is forked while another thread compiles would wait for the lock for ever.
    os.register_at_fork(
        before=LOCK.acquire, after_in_parent=LOCK.release, after_in_child=LOCK.release
    )

_OLDEST_LLVM = 20
"""The version of the oldest llvmlite that is tested; all its pointers have one type."""

_compiled: dict[str, Any] = {}


def obstacle() -> str | None:
    """Why LLVM is not available, or None."""
    with LOCK:
        llvm = _llvm()
    return llvm if isinstance(llvm, str) else None


@functools.cache
def _llvm() -> ModuleType | str:
    """The module, or why it cannot be used."""
    try:
        llvm = importlib.import_module("llvmlite.binding")
        version: int = llvm.llvm_version_info[0]
    except ModuleNotFoundError:
        return "llvmlite is not installed"
    except (ImportError, OSError) as error:  # it finds no library, or one of another system
        return f"llvmlite cannot be imported ({error})"
    if version < _OLDEST_LLVM:
        return f"llvmlite has LLVM {version}, older than {_OLDEST_LLVM}"
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    for name, function in _c_functions().items():
        llvm.add_symbol(name, ctypes.cast(function, ctypes.c_void_p).value)
    return llvm


def _c_functions() -> dict[str, Any]:
    """The C functions that compiled code calls, by the names that it uses."""
    memory = {
        "surefoot_allocate": ctypes.pythonapi.PyMem_RawMalloc,
        "surefoot_release": ctypes.pythonapi.PyMem_RawFree,
    }
    threads = _thread_functions() or {
        # Where there are none, they are never called.
        "pthread_create": ctypes.pythonapi.PyMem_RawMalloc,
        "pthread_join": ctypes.pythonapi.PyMem_RawMalloc,
    }
    return memory | {
        "surefoot_create_thread": threads["pthread_create"],
        "surefoot_join_thread": threads["pthread_join"],
    }


def has_threads() -> bool:
    """Whether C's thread functions are available; on Windows they are not."""
    return bool(_thread_functions())


@functools.cache
def _thread_functions() -> dict[str, Any]:
    try:
        library = ctypes.CDLL(None)
        return {name: getattr(library, name) for name in ("pthread_create", "pthread_join")}
    except (AttributeError, OSError, TypeError):
        return {}


def digest(*parts: Any) -> str:
    """A name for what is made of these parts that is the same in every process."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def address(representation: str, name: str) -> int:
    """The address of a function of a text in LLVM's intermediate representation.

    Args:
        representation: Definitions of functions.
        name: Which of them.

    Raises:
        RuntimeError: If LLVM is not installed, or does not understand the text.
    """
    with LOCK:
        if representation not in _compiled:
            _compiled[representation] = _kept_for_ever(_engine(representation))
        return int(_compiled[representation].get_function_address(name))


def _engine(representation: str) -> Any:
    llvm = _llvm()
    if isinstance(llvm, str):
        raise RuntimeError(f"There is no compiler of loops: {llvm}.")
    module = llvm.parse_assembly(representation)
    module.verify()
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
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    return engine


def _features(llvm: ModuleType) -> str:
    """The instruction sets of this processor, in LLVM's names."""
    try:
        return str(llvm.get_host_cpu_features().flatten())
    except RuntimeError:  # where LLVM cannot tell
        return ""


@functools.cache
def lanes() -> int:
    """How many numbers of 32 bits loops take at a time.

    More than a register holds, since numbers of 16 bits, too, should fill one, and so that the
    processor has something to do while it waits for a root and a quotient.
    """
    llvm = _llvm()
    wide = not isinstance(llvm, str) and "+avx512f" in _features(llvm).split(",")
    return 32 if wide else 16


def _kept_for_ever(engine: Any) -> Any:
    # One reference more than there are: not even a module that is imported anew, or the end of the
    # interpreter, frees code that a thread of a backend may be running.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(engine))
    return engine
