"""What every test shares: Hypothesis draws the same examples each time, and a slow machine is no failure."""

from hypothesis import settings

settings.register_profile("wattline", deadline=None, max_examples=40, derandomize=True)
settings.load_profile("wattline")
