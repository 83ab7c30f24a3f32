"""The analytic source: operators as bytes and arithmetic on a chip known by its facts."""
