"""What cannot be run with privacy, and why no epsilon may be told of what can."""

from fedmeta.config import Config
from fedmeta.data.store import UserStore
from fedmeta.methods import Method
from fedmeta.population import Population
from fedmeta.privacy.event import OFF, Privacy
from fedmeta.privacy.example_refusals import check_example
from fedmeta.privacy.plan import plan
from fedmeta.privacy.user_refusals import check_user
from fedmeta.public import is_private


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
        check_user(method, config)
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
