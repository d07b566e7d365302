"""What example-level privacy cannot be had for, with the reason and the remedy."""

from fedmeta.config import Config, ConfigError
from fedmeta.methods import METHODS, Method
from fedmeta.privacy.terms import shots
from fedmeta.privacy.user_refusals import uncovered


def check_example(method: Method, config: Config) -> None:
    """Refuse a combination before anything is run.

    Raises:
        ConfigError: what does not fit, the rule and the nearest thing that does.
    """
    given, name = config.privacy, config.method.name
    able = ", ".join(n for n, one in METHODS.items() if one.private)
    if method.contribute is None:
        return  # nothing leaves the user
    if method.private is None:
        raise ConfigError(
            f"method.name = {name!r} with privacy.unit = 'example': {_reason(method)}, so that no"
            f" clip of single examples bounds what one of them changes; use one of {able}"
            + (
                ""
                if uncovered(method)
                else ", or privacy.unit = 'user', which clips all that a user sends"
            )
        )
    if given.mechanism != "gaussian":
        raise ConfigError(
            f"privacy.mechanism = {given.mechanism!r} protects users; with privacy.unit ="
            " 'example' noise goes into the steps on the client: set privacy.mechanism = 'gaussian'"
        )
    for key, value in (
        ("adaptive-quantile", given.adaptive_quantile),
        ("noise-cohort-size", given.noise_cohort_size),
    ):
        if value:
            raise ConfigError(
                f"privacy.{key} = {value:g} is of privacy.unit = 'user'; with 'example' leave it"
                " at 0"
            )
    if config.method.batch:
        raise ConfigError(
            f"method.batch = {config.method.batch}: with privacy.unit = 'example' a step takes"
            " each example by chance, not so many in their order; set method.batch = 0 and"
            f" privacy.expected-batch = {config.method.batch}"
        )
    most = shots(config, method)
    if not given.sampling_rate and given.expected_batch > most:
        of = "data.support" if method.splits else "data.support + data.query"
        raise ConfigError(
            f"privacy.expected-batch = {given.expected_batch}: a user is taken to have {most}"
            f" examples ({of}), and a chance of more than 1 there is not; use {most} or less"
        )
    if config.federation.weighting == "examples":
        raise ConfigError(
            "federation.weighting = 'examples': with privacy.unit = 'example' a user's number of"
            " examples is private, and the weight would tell it; set federation.weighting ="
            " 'uniform'"
        )
    if method.splits and config.data.tasks == "domain-generalization":
        raise ConfigError(
            "data.tasks = 'domain-generalization' with privacy.unit = 'example': which domains are"
            " for the support depends on all examples of a user, so that one more could move the"
            f" others; use data.tasks = 'user', or a method without a query set, not {name!r}"
        )


def _reason(method: Method) -> str:
    if method.family == "meta-learning, gradient":
        return (
            "its meta-gradient goes through the inner loop, where every example of the support"
            " moves the terms of all others"
        )
    if method.generator is not None or method.own is not None or method.beside:
        return "it moves or sends more than gradients of a loss that is a sum over examples"
    return "it sets examples against each other, or looks at them past their gradients"
