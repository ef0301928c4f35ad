"""The soak itself works, with small counts."""

from tests.soak.soak import SMOKE, run


def test_soak() -> None:
    """Under load every task ends in exactly one final state, and nothing grows (2.6, 2.5)."""
    found = run(SMOKE)
    states = ("succeeded", "failed", "cancelled", "skipped")
    assert sum(found["soak"][state] for state in states) == found["soak"]["tasks"]
    assert found["fly"]["succeeded"] == SMOKE.in_flight
    assert found["block"]["ms a sync route, beside them"] < 1_000
