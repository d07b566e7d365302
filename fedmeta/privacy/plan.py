"""The mechanisms by unit and name: from the settings of a config to a bound :class:`Privacy`."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from fedmeta.config import Config, ConfigError
from fedmeta.methods import METHODS
from fedmeta.privacy.event import OFF, Charge, Event, Privacy
from fedmeta.privacy.terms import terms

Planned = Callable[[Config, int], Privacy]


def plan(config: Config, users: int, broken: Sequence[str] = ()) -> Privacy:
    """The mechanism of a config.

    Args:
        config: need not be resolved.
        users: training users, a public number.
        broken: reasons why no epsilon may be told that the config alone does not show.

    Raises:
        ConfigError: settings that protect nothing, or contradict each other.
    """
    settings = config.privacy
    if settings.unit == "off":
        return OFF
    made = MECHANISMS.get((settings.unit, settings.mechanism))
    if made is None:
        known = ", ".join(f"{unit} with {mechanism}" for unit, mechanism in MECHANISMS)
        raise ConfigError(
            f"privacy.unit = {settings.unit!r} with privacy.mechanism = {settings.mechanism!r}"
            f" cannot be had; there is: {known}"
        )
    _check_delta(config, users)
    if not settings.noise_multiplier > 0:
        raise ConfigError(
            f"privacy.noise-multiplier = {settings.noise_multiplier:g}: with privacy.unit ="
            f" {settings.unit!r} it must be above 0, since nothing is protected without noise;"
            " leave it out for the default, or set privacy.unit = 'off'"
        )
    _check_place(config)
    privacy = made(config, users)
    return replace(privacy, broken=(*privacy.broken, *broken))


def _check_delta(config: Config, users: int) -> None:
    """Refuse a delta that a mechanism would pass which publishes one record at random.

    Records are what is protected: users, or the examples of all of them, as many as the mechanism
    takes them to have. How many they have is private, and no setting may depend on it.
    """
    delta, each = config.privacy.delta, config.data.support + config.data.query
    records, what = users, f"{users} training users"
    if config.privacy.unit == "example":
        records, what = users * each, f"{users} training users of {each} examples each"
    if records and delta > 1 / records:
        raise ConfigError(
            f"privacy.delta = {delta:g}: with {what} it may be at most {1 / records:.3g}, since a"
            f" mechanism that publishes one of them at random would pass; use {0.1 / records:.1g}"
            " or less"
        )


def _check_place(config: Config) -> None:
    """Refuse settings that the mechanism does not have, which would seem to do something."""
    given = config.privacy
    asked = f"privacy.unit = {given.unit!r} with privacy.mechanism = {given.mechanism!r}"
    central = (given.unit, given.mechanism) == ("user", "gaussian")
    for key, value, fits, serves in (
        ("adaptive-quantile", given.adaptive_quantile, central, "'user' with 'gaussian'"),
        ("noise-cohort-size", given.noise_cohort_size, central, "'user' with 'gaussian'"),
        ("bands", given.bands - 1, given.mechanism == "banded", "'user' with 'banded'"),
        ("expected-batch", given.expected_batch, given.unit == "example", "'example'"),
    ):
        if value and not fits:
            raise ConfigError(
                f"privacy.{key}: serves {serves} alone, and here is {asked}; leave it out"
            )
    if given.sampling_rate and given.unit == "user" and not central:
        raise ConfigError(
            f"privacy.sampling-rate = {given.sampling_rate:g}: {asked} takes users in turn, which"
            " amplifies nothing; leave it at 0"
        )


def _central(config: Config, users: int) -> Privacy:
    """McMahan et al. 2018: Poisson cohorts, a clip per user, noise once, a public denominator.

    A declared cohort scales the noise as in pfl-research (Granqvist et al. 2024, section 3.2):
    with M users a round for each of ours, the mean of M has 1/M of our noise. Adaptive clipping:
    Andrew et al. 2021, theorem 1: noise z on the pair of sum and count costs what z costs when
    ``z_sum^-2 = z^-2 - (2 sigma_b)^-2``.
    """
    given, z = config.privacy, config.privacy.noise_multiplier
    expected = min(config.federation.users_per_round, users)
    rate = expected / users if users else 1.0
    if given.sampling_rate and not given.noise_cohort_size and given.sampling_rate != rate:
        raise ConfigError(
            f"privacy.sampling-rate = {given.sampling_rate:g}: {expected} users per round of"
            f" {users} training users make it {rate:g}; leave it at 0, or declare the cohort of a"
            " deployment with privacy.noise-cohort-size"
        )
    noise, count_noise = z, 0.0
    if given.adaptive_quantile:
        count_noise = max(expected / COUNT_NOISE, z)
        noise = (z**-2 - (2 * count_noise) ** -2) ** -0.5
    declared = given.noise_cohort_size
    if declared:
        if declared < expected:
            raise ConfigError(
                f"privacy.noise-cohort-size = {declared}: less than the {expected} users per round"
                " of this run; declare at least as many, or 0"
            )
        noise, count_noise = (s * expected / declared for s in (noise, count_noise))
    charged = given.sampling_rate if declared and given.sampling_rate else rate
    everybody = declared / charged if declared else 0.0
    if given.delta * everybody > 1 + 1e-9:
        raise ConfigError(
            f"privacy.delta = {given.delta:g}: {declared} users per round at a rate of {charged:g}"
            f" are a deployment with {everybody:,.0f} users, and with so many it may be at most"
            f" {1 / everybody:.3g}; use {0.1 / everybody:.1g} or less, or declare what there is"
        )
    return Privacy(
        unit="user",
        mechanism="gaussian",
        adjacency="a user is there or not",
        trusts="the server, with single contributions and with who takes part",
        clip=given.clip,
        noise_multiplier=z,
        noise=noise,
        expected=float(expected),
        sampling_rate=rate,
        users=users,
        cohort=expected,
        quantile=given.adaptive_quantile,
        count_noise=count_noise,
        declared=declared,
        charge=((Event(z, charged),),),
    )


COUNT_NOISE = 20
"""Expected users over the noise on their count in adaptive clipping (Andrew et al. 2021)."""


def _local(config: Config, users: int) -> Privacy:
    """Every user noises his own contribution; two of them are at most two clips apart."""
    z = config.privacy.noise_multiplier
    cohort = min(config.federation.users_per_round, users)
    return Privacy(
        unit="user",
        mechanism="local",
        adjacency="a user's data is any other data; that he takes part is not hidden",
        trusts="nobody but the user's own device",
        clip=config.privacy.clip,
        noise_multiplier=z,
        noise=z,
        expected=float(cohort),
        users=users,
        cohort=cohort,
        charge=((Event(z / 2),),),
        by="user",
    )


def _banded(config: Config, users: int) -> Privacy:
    """Banded matrix factorization (Choquette-Choo et al. 2023) with users taken in turn.

    Columns of the strategy matrix have norm 1 and two of them that are `bands` or more apart are
    orthogonal, so k participations so far apart cost what k releases at z cost.
    """
    given, z = config.privacy, config.privacy.noise_multiplier
    cohort = min(config.federation.users_per_round, users)
    apart = users // cohort if cohort else 1
    if given.bands > max(apart, 1):
        raise ConfigError(
            f"privacy.bands = {given.bands}: with {users} training users and {cohort} per round a"
            f" user is back after {apart} rounds, and there may be no more bands than that; use"
            f" privacy.bands = {apart}, or fewer users per round"
        )
    return Privacy(
        unit="user",
        mechanism="banded",
        adjacency="a user's contributions are his or nothing at all; the roster is public",
        trusts="the server, with single contributions",
        clip=given.clip,
        noise_multiplier=z,
        noise=z,
        expected=float(cohort),
        users=users,
        cohort=cohort,
        bands=given.bands,
        charge=((Event(z),),),
        by="user",
    )


def _example(config: Config, users: int) -> Privacy:
    """DP-SGD on the client (Abadi et al. 2016), composed as its method goes (Li et al. 2020).

    A delta is made of the noised steps: it is post-processing. With a query that never changes
    places with the support, an example is in one of the two, and the costlier one counts; where
    they are redrawn in each round an example may have been in both, and the two add up. A method
    that sends nothing costs nothing. The server knows whom it asked: no draw of users amplifies.
    """
    method = METHODS[config.method.name]
    found = terms(config, method)
    inner, outer = Event(found.multiplier, found.rate, found.steps), Event(found.multiplier)
    charge: Charge = ((inner,),)
    if found.query_divisor is not None:
        charge = ((inner,), (outer,)) if found.fixed else ((inner, outer),)
    cohort = min(config.federation.users_per_round, users)
    return Privacy(
        unit="example",
        mechanism="gaussian",
        adjacency=EPISODE
        if config.data.tasks == "episodic"
        else "a user has one example more or less",
        trusts="nobody but the user's own device",
        clip=found.clip,
        noise_multiplier=found.multiplier,
        noise=found.multiplier,
        expected=float(cohort),
        users=users,
        cohort=cohort,
        charge=charge if method.contribute is not None else (),
        by="user",
    )


EPISODE = "an episode has one example more or less; an item of several is another one in each"

MECHANISMS: dict[tuple[str, str], Planned] = {
    ("example", "gaussian"): _example,
    ("user", "gaussian"): _central,
    ("user", "local"): _local,
    ("user", "banded"): _banded,
}
"""Unit and mechanism: how to make a :class:`Privacy` of them."""
