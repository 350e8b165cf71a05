"""The costs of the gateway: what is measured is there, and nothing changes on the way."""

import sys

import pytest

from studies.gateway_costs import measure_gateway_costs

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="CPU time is read from /proc")


@pytest.mark.slow
def test_the_costs_of_a_gateway_are_measured() -> None:
    """Each kind of reply costs some CPU time; the text has a line for each."""
    found = measure_gateway_costs(rounds=1, requests=3)
    assert found.unchanged
    assert (
        set(found.cpu)
        == set(found.token)
        == {f"{a}, {b}" for a in ("kept", "forwarded") for b in ("whole", "streamed")}
    )
    assert all(0 < one.value < 100 for one in found.cpu.values())
    assert found.delay.n == 6
    assert 0 < found.delay.value <= found.late.value
    assert len(str(found).splitlines()) == 6
