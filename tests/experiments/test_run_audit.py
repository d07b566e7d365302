"""An audit stands beside every epsilon that a run tells, and changes nothing of the run."""

from collections.abc import Callable
from pathlib import Path

from tests.experiments.runs import Result, sets, summary_of

PRIVATE = {
    "privacy__unit": "user",
    "privacy__noise_multiplier": 1.0,
    "privacy__delta": 1e-3,
    "privacy__clip": 0.5,
    "method__name": "reptile",
    "head__name": "linear",
}


def test_a_lower_bound_beside_the_claim(fedmeta: Callable[..., Result]) -> None:
    shown = fedmeta("simulate", *sets(**PRIVATE, run__canaries=60), "--out", "with")
    assert shown.code == 0, shown.err
    summary = summary_of(Path("with"))
    audit = summary["audit"]
    assert audit["canaries"] == 60
    assert audit["lower_bound"] <= audit["lower_bound_curve"] < audit["claimed"]
    assert abs(audit["claimed"] / summary["privacy"]["epsilon"] - 1) < 0.05
    assert "audit: epsilon is at least" in " ".join(shown.out.split())
    without = fedmeta("simulate", *sets(**PRIVATE), "--out", "without", "--json").json
    assert "audit" not in without
    assert without["weights_sha256"] == summary["weights_sha256"]


def test_where_there_is_no_audit_the_reason_stands(fedmeta: Callable[..., Result]) -> None:
    given = PRIVATE | {"privacy__mechanism": "local", "run__canaries": 60}
    found = fedmeta("simulate", *sets(**given), "--json").json
    assert found["privacy"]["epsilon"] > 0
    assert "is not audited" in found["audit"]["reason"]
