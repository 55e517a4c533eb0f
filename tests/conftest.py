"""What every test shares."""

from hypothesis import settings

# A busy machine is no failure; a failing example prints how to repeat it.
settings.register_profile("hybridcore", deadline=None, print_blob=True)
settings.load_profile("hybridcore")
