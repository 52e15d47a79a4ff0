"""Placeholders for packages that ComfyUI imports and nothing in the check uses, where the machine lacks them.

ComfyUI's API module imports a video library, and its samplers scipy. Each is 35 MB, which the folder cannot carry.
A placeholder can be imported; calling what it holds raises an error that names the package.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Iterable

NAMES = ("av", "scipy", "torchaudio")


class _Absent(types.ModuleType):
    __path__: list = []

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        whole = f"{self.__name__}.{name}"

        def refuse(*args, **kwargs):
            raise ImportError(f"{whole} was called, but {whole.split('.')[0]} is not installed here")

        # A class, for it may be a base class or stand in a type hint.
        return type(name, (), {"__new__": refuse})


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def __init__(self, names: Iterable[str]):
        self.names = frozenset(names)

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] not in self.names:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        return _Absent(spec.name)

    def exec_module(self, module):
        pass


def fill_in(names: Iterable[str] = NAMES) -> list[str]:
    """Put placeholders where packages are missing, and give their names."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        sys.meta_path.append(_Finder(missing))
    return missing
