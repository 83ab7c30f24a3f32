"""Tests for `wattline.show.web.openapi`: the interface is what its description says, under any input."""

from __future__ import annotations

import warnings

import pytest
from hypothesis import HealthCheck, settings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what the fuzzer's own dependencies deprecate is not ours to mend
    import schemathesis
    from schemathesis.specs.openapi.checks import positive_data_acceptance

from wattline.show.web import openapi

schema = schemathesis.openapi.from_dict(openapi.description())


def test_every_route_is_described():
    """No route of the interface is missing from its description, and none is made up."""
    from wattline.show.web.app import create

    routes = {route.path for route in create().routes if route.path.startswith("/api")}
    assert routes == set(openapi.description()["paths"])


@schema.parametrize()
@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@pytest.mark.filterwarnings("ignore")
def test_no_input_brings_the_server_down(case: schemathesis.Case, studio: str):
    """Generated requests, right and wrong, get an answer that the description allows; never a 500."""
    # Whether a text is a scenario is no matter of its schema: a sentence with status 422 is right.
    case.call_and_validate(base_url=studio, timeout=60, excluded_checks=[positive_data_acceptance])
