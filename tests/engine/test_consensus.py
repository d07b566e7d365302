"""FedMD: what the server makes of the users' logits."""

import torch

from fedmeta import cohort
from fedmeta.params import KEY, owned
from tests.engine.cases import model_of, tasks, theta_of
from tests.engine.test_fedmd import METHOD, every_head, logits, settings


@every_head
def test_the_next_consensus_is_the_mean_of_what_users_say(head: str) -> None:
    """Of the heads that they have in the end, weighted as users are."""
    model = model_of(head)
    theta, weight = theta_of(METHOD, model, 67), torch.tensor([1.0, 2.0, 0.5, 3.0, 1.0])
    update = cohort.contribute(METHOD, model, theta, tasks(67), settings(), weight)
    heads = owned({n: v for n, v in update.kept.items() if n != KEY})
    said = torch.stack(
        [logits(model, {n: v[u] for n, v in heads.items()}, theta["public/x"]) for u in range(5)]
    )
    found = theta["public/logits"] - update.total["public/logits"] / update.weight
    expected = (weight[:, None, None] * said).sum(0) / weight.sum()
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)
    assert float((expected - theta["public/logits"]).abs().max()) > 0.1
