"""The head, and how users adapt it: settings of the inner loop and of single methods."""

from typing import Annotated, Literal

from pydantic import Field

from fedmeta.sections.section import Count, Fraction, Natural, NonNegative, Section


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
    centroid_share: Fraction = Field(
        0.1,
        description="`meta-fine-tuning`: share of the rounds in which users send class sums and"
        " counts; always in the first",
    )
    corruption: NonNegative = Field(
        0.1, description="`meta-fine-tuning`: weight of the domain-corruption loss"
    )
    target_domain: Natural = Field(
        0, description="`metaadapt`: number of the domain whose users are the reference"
    )
    temperature: Annotated[float, Field(gt=0.0)] = Field(
        0.5, description="`metaadapt`: a user counts exp(cosine / temperature)"
    )
    unlabelled_share: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        0.5, description="`damstf`: share of a user's support set whose labels are hidden"
    )
    pseudo_weight: NonNegative = Field(
        0.5, description="`damstf`: weight of the pseudo-labelled examples together"
    )
    public_examples: Count = Field(64, description="`fedmd`: size of the public set")
    digest_steps: Natural = Field(10, description="`fedmd`: steps towards the consensus")
    digest_rate: NonNegative = Field(
        0.0, description="`fedmd`: learning rate of those steps; 0: as method.rate"
    )
    least_width: Fraction = Field(
        0.25, description="`fedmd`: least share of the hidden units that a user's head has"
    )
