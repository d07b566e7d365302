"""The one error of this package, in a file of its own so that every module can raise it."""


class BackboneError(ValueError):
    """Features that cannot be had; the message names what, the rule and the remedy."""
