"""What user-level privacy cannot be had for, with the reason and the remedy."""

from fedmeta.config import Config, ConfigError
from fedmeta.methods import Method
from fedmeta.sections.validation import ValidationConfig


def check_user(method: Method, config: Config) -> None:
    """Refuse what one clip of all that leaves a user does not cover.

    Raises:
        ConfigError: what does not fit, the rule and the nearest thing that does.
    """
    if config.federation.weighting == "examples":
        raise ConfigError(
            "federation.weighting = 'examples': with privacy.unit = 'user' the weight of a user"
            " may not depend on his data, since the sum of the weights would tell of it; set"
            " federation.weighting = 'uniform'"
        )
    cap, given = config.validation.max_norm, config.privacy
    loose = given.mechanism == "local" or given.adaptive_quantile > 0
    # Where the clip moves or noise is added by users, no size is checked: only a cap that was
    # asked for would be missed.
    if cap and (cap != ValidationConfig().max_norm if loose else cap <= given.clip):
        raise ConfigError(
            f"validation.max-norm = {cap:g} with privacy.unit = 'user': a chunk of users that is"
            " refused for its norm takes all of them away for what one has sent, which no clip of"
            " one user covers; set validation.max-norm = 0, the clip bounds them already"
        )
    if reason := uncovered(method):
        raise ConfigError(
            f"method.name = {method.name!r} {reason}; use method.name = {method.nearest!r}, which"
            " is nearest to it, or privacy.unit = 'off'"
        )


def uncovered(method: Method) -> str:
    """Why a clip of all that a user of a method sends does not bound what he changes, or ""."""
    if method.weighs:
        return "weighs users by their data, which privacy.unit = 'user' does not cover"
    if method.generator is not None:
        return (
            "needs each user's own contribution at the server, and privacy.unit = 'user' protects"
            " sums"
        )
    if method.beside or method.statistics:
        names = ", ".join(sorted({*method.beside, *method.statistics}))
        return (
            f"sends counts or running means ({names}), which the server uses past its optimizer"
            " and which noise would make useless"
        )
    return ""
