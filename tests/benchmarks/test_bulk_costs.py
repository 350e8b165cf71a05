"""The costs of bulk work: what is measured is there."""

import sys

import pytest

from studies.bulk import measure_bulk_costs


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_bulk_work_is_measured_beside_plain_loops() -> None:
    """Four ratios have a goal; the loop gives the labels of the cascade, which the measurement checks."""
    found = measure_bulk_costs(rows=2000, rounds=2)
    assert [one.goal for one in found.ratios] == [1.05, None, 1.1, 1.2, 1.1]
    assert all(0 < one.low <= one.value <= one.high for one in found.ratios)
    assert len(str(found).splitlines()) == 5
