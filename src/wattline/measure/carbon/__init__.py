"""Carbon and price over time: what a joule cost where and when it was used; no location, no figure."""
