"""What a method is told of its users beside their examples; it stays with them."""

from fedmeta.methods.method import Method
from fedmeta.params import DOMAIN, KEY


def told(method: Method, domains: int, judged: bool = False) -> dict[str, str]:
    """The facts that a method is told of a user, as it calls them, by what it needs.

    Args:
        method: which may make use of domains where there are at least two, in training.
        domains: how many there are.
        judged: whether the user is not one of training.
    """
    wanted = method.needs | (method.takes if domains > 1 and not judged else frozenset())
    return {need: name for need, name in {"domains": DOMAIN, "key": KEY}.items() if need in wanted}
