"""What the tests of trainings share."""

import jax
import pytest


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Let all trainings of a module share what was compiled; return the folder of it."""
    folder = tmp_path_factory.mktemp("cache")
    options = {
        "jax_compilation_cache_dir": str(folder),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in options}
    for name, value in options.items():
        jax.config.update(name, value)
    yield folder
    for name, value in before.items():
        jax.config.update(name, value)
