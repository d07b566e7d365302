"""The head, and how users adapt it: settings of the inner loop and of single methods."""

from typing import Annotated, Literal

from pydantic import Field

from fedmeta.sections.section import (
    Count,
    Fraction,
    Natural,
    NonNegative,
    Positive,
    Section,
)


class HeadConfig(Section):
    """The small model that users adapt."""

    name: Literal["linear", "mlp"] = Field("mlp", description="see `fedmeta list heads`")
    hidden: Count = Field(64, description="`mlp`: hidden units")


class MethodConfig(Section):
    """The inner loop and what is specific to a method."""

    name: str = Field("maml", description="see `fedmeta list methods`")
    rate: NonNegative = Field(0.0, description="inner learning rate; 0: the method's default")
    steps: Natural = Field(0, description="inner steps in training; 0: the method's default")
    batch: Natural = Field(0, description="inner minibatch; 0: full batch")
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        0.0, description="heavy-ball momentum of the inner loop"
    )
    mu: NonNegative = Field(0.1, description="`fedprox`: weight of the proximal term")
    adapt_rate: NonNegative = Field(
        0.0, description="learning rate when a new user personalizes; 0: as in training"
    )
    adapt_steps: Natural = Field(
        0, description="steps when a new user personalizes; 0: as in training"
    )
    imaml_lambda: Positive = Field(
        0.1, description="`imaml`: weight of the proximal term, the trust in the initialization"
    )
    cg_steps: Natural = Field(5, description="`imaml`: steps of conjugate gradients")
    cg_damping: NonNegative = Field(
        1.0, description="`imaml`: added to the Hessian, times the identity"
    )
    learned_rates: bool = Field(
        True, description="`maml-pp`: learn one inner rate for each layer and step"
    )
    multi_step_share: Fraction = Field(
        0.1,
        description="`maml-pp`: share of the rounds in which the query loss after every step"
        " counts; 0: the last step alone",
    )
    first_order_share: Fraction = Field(
        0.0, description="`maml-pp`: share of the rounds that are first-order"
    )
    alpha_speed: Positive = Field(
        1.0,
        description="`alpha-maml`: outer rate of the inner rate's logarithm over that of weights",
    )
    local_steps: Count = Field(5, description="`per-fedavg`: meta-steps of a user in a round")
    local_rate: NonNegative = Field(1.0, description="`per-fedavg`: rate of those meta-steps")
    hessian_free: bool = Field(
        False,
        description="`per-fedavg`: second order by differences of gradients; false: first order",
    )
    difference: Positive = Field(
        0.01, description="`per-fedavg`: delta, the half width of those differences"
    )
