"""MetaAdapt where it should help: half of the users are of another domain than those judged."""

from typing import Any

import pytest

from fedmeta import loop
from fedmeta.params import DOMAIN
from fedmeta.statistics import interval
from tests.federation.runs import over_inline


@pytest.mark.slow
def test_metaadapt_beats_uniform_weights_when_half_of_the_users_are_off_domain() -> None:
    """Accuracy of the model itself on test users of the target: 95 % interval of paired gains.

    After ten examples of their own the users have made up for most of the difference.
    """
    small: dict[str, Any] = {
        "data__users": 2000, "data__heterogeneity": 0.2, "data__domains": 2, "data__query": 30,
        "data__messages": 1200, "data__support": 10, "data__examples": 50, "head__name": "mlp",
        "head__hidden": 32, "federation__rounds": 40, "federation__users_per_round": 50,
        "federation__chunk": 25, "evaluation__every": 40, "evaluation__shots": "0,10",
    }  # fmt: skip
    before, after = {}, {}
    for name in ("maml", "metaadapt"):
        outcome = over_inline(method__name=name, **small)
        facts = loop.facts_of(outcome.problem, outcome.users["test"], judged=True)
        home = facts[DOMAIN].numpy()
        assert 0.4 < (home == 0).mean() < 0.6
        before[name], after[name] = outcome.scores["test"][[0, -1], 0][:, home == 0]
    gain = interval(before["metaadapt"] - before["maml"], 2000)
    assert gain.low > 0, gain
    kept = interval(after["metaadapt"] - after["maml"], 2000)
    assert kept.high > 0, kept
