"""Libraries that segjax is compared with: imported when a test first uses them.

A test names those that it uses, ``@pytest.mark.peer("torchio")``, and is skipped where one is
missing. A test that is not marked so cannot use them, not by accident either.
"""

from importlib import import_module
from importlib.util import find_spec

import pytest

_BENCH = 'pip install -e ".[bench]"'
_INSTALL = {
    "intensity_normalization": "pip install intensity-normalization==4.0.0",  # of Python 3.12 on
    "pydactim": "pip install --no-deps pydactim==1.0.18",  # its pins fit no Python of ours
    "slicer_core": "pip install slicer-core==5.13.31053.0",  # with VTK, 0.8 GB
}
_WITH_TORCH = ("torch", "monai", "torchio")
_allowed: set[str] = set()


def allow(*names):
    """Let the test that is set up use these libraries; skip it where one is missing."""
    _allowed.clear()
    _allowed.update(names)
    for name in names:
        if not find_spec(name):
            pytest.skip(f"needs {name}: {_INSTALL.get(name, _BENCH)}")


class Peer:
    """A module that tests with any of some marks import by using one of its names."""

    def __init__(self, module, *marks):
        self._module, self._marks = module, marks or (module,)

    def __getattr__(self, name):
        if name.startswith("__"):  # pytest looks for its own at all that a file imports
            raise AttributeError(name)
        if not _allowed.intersection(self._marks):
            raise RuntimeError(f'mark this test: @pytest.mark.peer("{self._marks[0]}")')
        return getattr(import_module(self._module), name)


monai, surface_distance, torchio = Peer("monai"), Peer("surface_distance"), Peer("torchio")
intensity_normalization = Peer("intensity_normalization")
bioimageio_spec = Peer("bioimageio.spec", "bioimageio")
torch = Peer("torch", *_WITH_TORCH)
networks = Peer("benchmarks.peers", *_WITH_TORCH)
