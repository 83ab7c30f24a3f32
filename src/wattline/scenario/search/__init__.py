"""A trace of requests in, the replicas that serve it for the least joules per token out.

    space: variants (chip x layout x precision) --analysed (serving/candidates.py)--> candidates
    confirm: the best --simulated (simulate/), which corrects what the rest is expected to do--> the chosen one

Variants and simulations are points of a sweep, so they run on this machine's cores or on Ray alike.
"""

from .search import points, search

__all__ = ["points", "search"]
