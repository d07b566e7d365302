"""What is protected, from whom, by which mechanism: one section for the three of them."""

from typing import Annotated, Literal

from pydantic import Field

from fedmeta.sections.section import Count, Natural, NonNegative, Section


class PrivacyConfig(Section):
    """Differential privacy; docs/privacy.md says what each unit protects and what it does not."""

    unit: Literal["off", "example", "user"] = Field(
        "off", description="what one record is: an example of a user, or a user with all he has"
    )
    mechanism: Literal["gaussian", "local", "banded"] = Field(
        "gaussian",
        description="gaussian: for `example` noise in the steps on the client, for `user` noise by"
        " the server on the sum; local: every user noises his own contribution; banded: noise"
        " correlated over rounds (DP-FTRL, banded matrix factorization)",
    )
    noise_multiplier: NonNegative = Field(
        20.0,
        description="standard deviation of the noise over the clip; the default hides even a label"
        " in what one user sends, `fedmeta epsilon` says what less costs",
    )
    clip: Annotated[float, Field(gt=0.0)] = Field(
        1.0, description="largest L2 norm of what one record contributes"
    )
    adaptive_quantile: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        0.0, description="`user`: share of users below the clip, which adapts to it; 0: fixed"
    )
    sampling_rate: Annotated[float, Field(ge=0.0, le=1.0)] = Field(
        0.0,
        description="chance of a record to be in a step; 0: derived from `privacy.expected-batch`"
        " and the shots (`example`) or users per round and training users (`user`, for which it"
        " is given with `privacy.noise-cohort-size` alone)",
    )
    expected_batch: Natural = Field(
        0, description="`example`: expected records in a step, a public number; 0: all of them"
    )
    split: Literal["fixed", "redrawn"] = Field(
        "fixed",
        description="`example`, methods with a query set: whether an example is for the support or"
        " for the query once for the whole run, or anew in each round, which costs more",
    )
    delta: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(
        1e-5,
        description="delta at which epsilon is told; at most 1 over the users, or the examples of"
        " all of them, that are protected",
    )
    epsilon_budget: NonNegative = Field(
        0.0, description="a user takes no part when it would take him past this; 0: no budget"
    )
    noise_cohort_size: Natural = Field(
        0,
        description="`user` with gaussian: users per round of the deployment that is extrapolated"
        " to; the noise is scaled as theirs, and epsilon is that deployment's; 0: the simulated",
    )
    bands: Count = Field(
        1,
        description="`banded`: bands of the strategy matrix, at most the rounds after which a user"
        " is back",
    )
    test_noise: bool = Field(
        False,
        description="deployment: noise and cohorts go by `run.seed` as in a simulation, to compare"
        " the two; it hides nothing, no epsilon is told, and nodes refuse it unless their owner's"
        " policy has test-noise = true",
    )
