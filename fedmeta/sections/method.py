"""The head, and how users adapt it: settings of the inner loop and of single methods."""

from typing import Annotated, Literal

from pydantic import Field

from fedmeta.sections.section import Count, Natural, NonNegative, Section


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
    pfedme_lambda: NonNegative = Field(
        0.02,
        description="`pfedme`: weight of the proximal term (published: 15, for features that are"
        " not of unit norm)",
    )
    pfedme_rate: NonNegative = Field(
        0.0,
        description="`pfedme`: rate eta of the local steps towards personal models; 0: half of the"
        " way, 0.5 / method.pfedme-lambda",
    )
    local_rounds: Count = Field(5, description="`pfedme`: local rounds in a round")
    ditto_lambda: NonNegative = Field(
        0.02,
        description="`ditto`: how strongly personal models are held near the common one"
        " (published: 0.1 to 2, for features that are not of unit norm)",
    )
    mix: Annotated[float, Field(ge=0.0, le=1.0)] = Field(
        0.5, description="`apfl`: share of the personal model in a newcomer's mixture"
    )
    mix_rate: NonNegative = Field(
        0.1, description="`apfl`: learning rate of that share; 0: it stays as it is"
    )
    head_steps: Natural = Field(
        0,
        description="`fedrep`, `fedrecon`: steps of the output layer before those of the trunk;"
        " 0: as method.steps",
    )
    trunk_rate: NonNegative = Field(
        0.0, description="`fedrecon`: learning rate of the trunk; 0: as method.rate"
    )
    first_order: bool = Field(
        False, description="`protomaml`, `protomamln`: gradients of the inner loop are constants"
    )
    detach_prototypes: bool = Field(
        False, description="`protomaml`, `protomamln`: prototypes are constants too"
    )
    prototype_bias: Literal["squared", "none"] = Field(
        "squared", description="`protomaml`, `protomamln`: the output layer's first bias"
    )
    neighbours: Count = Field(10, description="`knn-per`: most neighbours (k) that vote")
    knn_weight: Annotated[float, Field(ge=-1.0, le=1.0)] = Field(
        -1.0,
        description="`knn-per`: weight of the neighbours; negative: by each user's own support",
    )
    knn_scale: Annotated[float, Field(gt=0.0)] = Field(
        0.1, description="`knn-per`: distance of embeddings over which a vote falls by e"
    )
