"""What cannot be run with privacy, and why no epsilon may be told of what can."""

from fedmeta.config import Config, ConfigError
from fedmeta.data.store import UserStore
from fedmeta.methods import Method
from fedmeta.population import Population
from fedmeta.privacy.event import OFF, Privacy
from fedmeta.privacy.example_refusals import check_example
from fedmeta.privacy.plan import plan
from fedmeta.public import is_private
from fedmeta.sections.validation import ValidationConfig


def checked(method: Method, population: Population, config: Config) -> Privacy:
    """The mechanism of a run.

    Raises:
        ConfigError: what does not fit together, with the rule and the remedy.
    """
    if config.privacy.unit == "off":
        return OFF
    check_settings(method, config)
    return plan(config, population.trainers, in_the_clear(method, population.store, config))


def check_settings(method: Method, config: Config) -> None:
    """Refuse what the settings alone show that no noise covers.

    Raises:
        ConfigError: with the rule and the remedy.
    """
    if config.privacy.unit == "user" and method.contribute is not None:
        _check_user(method, config)
    if config.privacy.unit == "example":
        check_example(method, config)


def in_the_clear(method: Method, store: UserStore | None, config: Config) -> tuple[str, ...]:
    """What of the training users' data is made public without noise.

    ``store`` holds the data; None: they are not read, and only what the settings show is told.
    """
    found, wanted = [], config.data.standardize
    if config.privacy.test_noise:
        found.append("the noise is a known function of run.seed (privacy.test-noise)")
    if wanted == "features" or (store and wanted == "auto" and store.modality == "features"):
        found.append(
            "features are scaled by the training users' own means and spreads; scale them before,"
            " by public constants, and set data.standardize = 'none'"
        )
    if store and store.task == "regression":
        found.append("targets are scaled by the training users' own mean and spread")
    if "public" in method.needs and is_private(config.data):
        found.append(
            f"the public set of method.name = {method.name!r} is drawn from the training users'"
            " items, which are no public ones; name others in data.public"
        )
    return tuple(found)


def _check_user(method: Method, config: Config) -> None:
    """Refuse what one clip of all that leaves a user does not cover."""
    name, remedy = method.name, "use another method, or privacy.unit = 'off'"
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
    if method.weighs:
        raise ConfigError(
            f"method.name = {name!r} weighs users by their data, which privacy.unit = 'user' does"
            f" not cover; {remedy}"
        )
    if method.generator is not None:
        raise ConfigError(
            f"method.name = {name!r} needs each user's own contribution at the server, and"
            f" privacy.unit = 'user' protects sums; {remedy}"
        )
    if method.beside or method.statistics:
        names = ", ".join(sorted({*method.beside, *method.statistics}))
        raise ConfigError(
            f"method.name = {name!r} sends counts or running means ({names}), which the server"
            f" uses past its optimizer and which noise would make useless; {remedy}"
        )
