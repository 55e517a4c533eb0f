"""What every test shares."""

import gc

import pytest
from hypothesis import settings

# A busy machine is no failure; a failing example prints how to repeat it.
settings.register_profile("hybridcore", deadline=None, print_blob=True)
settings.load_profile("hybridcore")


@pytest.fixture
def uncollected():
    """No cyclic garbage is collected: at the recursion limit finalizers of others would fail."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()
