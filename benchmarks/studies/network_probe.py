"""Whether the shaping proxy keeps its profiles on this machine: `python -m studies.network_probe [PROFILE ...]`."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np

from edgecascade.benchmarks.network import PROFILES, Profile
from edgecascade.benchmarks.network.probe import MESSAGE, Measured, ping_seconds, probe, probe_server
from edgecascade.benchmarks.network.proxy import shaped

__all__ = ["check", "errors", "met"]

_TOLERANCE = 0.1


def check(profile: Profile, *, pings: int = 100, seconds: float | None = None, connections: int = 200) -> Measured:
    """Measure a profile: everything but outages while the network is up, then the share of time that it is down.

    Args:
        profile: of the network.
        pings: small messages whose round trips are measured.
        seconds: duration of each transfer; by default 3, and 20 where stalls need the time to average out.
        connections: connections opened to count the resets.
    """
    long = seconds or (20.0 if profile.stall_rate * profile.stall > 0.05 else 3.0)
    steady = replace(profile, outage_period=0.0, outage_share=0.0)
    found = probe(steady, pings=pings, seconds=long, connections=connections)
    return replace(found, profile=profile, time_down=_time_down(profile, pings) if profile.outage_share else 0.0)


def errors(found: Measured) -> dict[str, float]:
    """Return the relative error of round trip, up and down against the profile."""
    profile = found.profile
    expected = found.bare + profile.round_trip + 8 * MESSAGE * (1 / profile.up + 1 / profile.down)
    return {
        "round trip": found.median.value / expected - 1,
        "up": found.up / profile.goodput(up=True) - 1,
        "down": found.down / profile.goodput(up=False) - 1,
    }


def met(found: Measured) -> bool:
    """Return whether errors are within 10 %, resets in their interval and outages within .1 of the time."""
    return (
        all(abs(error) <= _TOLERANCE for error in errors(found).values())
        and found.resets.low <= found.profile.reset_share <= found.resets.high
        and abs(found.time_down - found.profile.outage_share) <= _TOLERANCE
    )


def _time_down(profile: Profile, pings: int) -> float:
    """Return the share of time that pings wait for an outage to end, over two periods."""
    with probe_server() as direct, shaped(direct, profile) as address:
        found = ping_seconds(address, pings, 2 * profile.outage_period)
    waited = found - np.median(found)
    long = profile.outage_period * profile.outage_share / 2  # seconds that no stall and no jitter makes a ping wait
    return float(waited[waited > long].sum() / found.sum())


def _line(found: Measured) -> str:
    profile, off, round_trip = found.profile, errors(found), found.median
    return "; ".join(
        (
            f"{profile.name}: round trip {round_trip.value * 1e3:.2f} ms ({round_trip.low * 1e3:.2f} to "
            f"{round_trip.high * 1e3:.2f}, n = {round_trip.n}, {off['round trip']:+.1%})",
            f"p95 {found.p95.value * 1e3:.2f} ms",
            f"up {found.up / 1e6:.3g} Mbit/s ({off['up']:+.1%})",
            f"down {found.down / 1e6:.3g} Mbit/s ({off['down']:+.1%})",
            f"resets {found.resets.percent()} of {found.resets.n} (profile {profile.reset_share:.1%})",
            f"down {found.time_down:.0%} of the time (profile {profile.outage_share:.0%})",
            "met" if met(found) else "missed",
        )
    )


if __name__ == "__main__":
    for name in sys.argv[1:] or PROFILES:
        print(_line(check(PROFILES[name])), flush=True)
