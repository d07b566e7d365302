"""Scores and protected training do not mix: scores would say of his data what the noise hides."""

from clients import ledger
from clients.disk import sync_file
from clients.home import Home, run_folder
from clients.policy import Policy
from clients.refused import RefusedError

TOLD = "scores-told"
"""A file in the node's folder: a score of his has left it."""


def tell(home: Home, policy: Policy, unit: str, run: str) -> None:
    """Before scores are told: whether they may be; that they were is noted first.

    Args:
        home: the node's.
        policy: of the owner.
        unit: `privacy.unit` of the run.
        run: its name.

    Raises:
        RefusedError: the owner tells none, or the user has trained under privacy.
    """
    if not policy.tell_scores:
        raise RefusedError("policy", "scores are asked for", "tell-scores")
    trained = (run_folder(home, run) / "answers").exists()
    if unit != "off" and (trained or ledger.history(home.folder, home.name)):
        raise RefusedError("policy", "scores of a user whose training is protected", "tell-scores")
    if not (home.folder / TOLD).exists():
        sync_file(home.folder / TOLD, b"")


def check_untold(home: Home, policy: Policy, unit: str) -> None:
    """Before training under privacy: whether scores have told already what noise would hide.

    Raises:
        RefusedError: they have, and the owner does not say that he minds it not.
    """
    told = (home.folder / TOLD).exists()
    if unit != "off" and told and not policy.train_after_scores:
        raise RefusedError(
            "policy", "protected training of a user whose scores were told", "train-after-scores"
        )
