"""Networks between a device and a server: profiles, a proxy that shapes real traffic by them, and a probe of it."""

from edgecascade.benchmarks.network.profile import PROFILES, Profile

__all__ = ["PROFILES", "Profile"]
