"""The head, and how users adapt it: settings of the inner loop and of single methods."""

from typing import Annotated, Literal

from pydantic import Field

from fedmeta.sections.section import Count, Fraction, Natural, NonNegative, Positive, Section


class HeadConfig(Section):
    """The small model that users adapt."""

    name: Literal[
        "auto",
        "linear",
        "mlp",
        "proto",
        "ridge",
        "ph-transformer",
        "mmoe",
        "scale-shift",
        "lora",
        "prompt",
        "conv4",
        "gru",
        "encoder",
    ] = Field("auto", description="see `fedmeta list heads`; auto: what the method needs, or `mlp`")
    adapt: str = Field(
        "auto",
        description="what the inner loop moves: `head` (what lies behind the body of a model that"
        " is adapted as a whole), `all`, or patterns of parameters' names, such as"
        " `conv3.*,output.*`; auto: what the method does",
    )
    hidden: Count = Field(64, description="hidden units; `mmoe`: those of all experts together")
    depth: Count = Field(1, description="`mlp`: hidden layers")
    experts: Count = Field(4, description="`mmoe`: experts")
    width: Natural = Field(
        64, description="`ph-transformer`: width of the layer; 0: that of the features"
    )
    feed_forward: Count = Field(128, description="`ph-transformer`: feed-forward units")
    attention_heads: Count = Field(4, description="`ph-transformer`: attention heads")
    filters: Count = Field(32, description="`conv4`: channels of each block")
    channels: Count = Field(1, description="`conv4`: channels of an image")
    vocabulary: Count = Field(128, description="`gru`: character codes")
    embedding: Count = Field(8, description="`gru`: numbers of a character")
    rank: Count = Field(4, description="`lora`: rank of the adapters")
    prompt: Count = Field(8, description="`prompt`: positions before the text")


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
    imaml_lambda: Positive = Field(
        0.1, description="`imaml`: weight of the proximal term, the trust in the initialization"
    )
    cg_steps: Natural = Field(5, description="`imaml`: steps of conjugate gradients")
    cg_damping: NonNegative = Field(
        3.0,
        description="`imaml`: added to lambda where the Hessian is divided by it; 0: the exact"
        " derivative, of which the default is a damped version",
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
    local_rate: NonNegative = Field(
        0.0, description="`per-fedavg`: rate beta of those meta-steps; 0: as method.rate"
    )
    hessian_free: bool = Field(
        False,
        description="`per-fedavg`: second order by differences of gradients; false: first order",
    )
    difference: Positive = Field(
        0.01, description="`per-fedavg`: delta, the half width of those differences"
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
    adversary: NonNegative = Field(
        0.01,
        description="`damstf`: weight of the classifier of domains that the trunk works against,"
        " where users have domains; 0: none",
    )
    public_examples: Count = Field(64, description="`fedmd`: size of the public set")
    digest_steps: Natural = Field(10, description="`fedmd`: steps towards the consensus")
    digest_rate: NonNegative = Field(
        0.0, description="`fedmd`: learning rate of those steps; 0: as method.rate"
    )
    least_width: Fraction = Field(
        0.25, description="`fedmd`: least share of the hidden units that a user's head has"
    )
    embedding: Count = Field(8, description="`pfedhn`: width of the users' embeddings")
    generator_hidden: Count = Field(
        16, description="`pfedhn`: hidden units of the network that makes initializations"
    )
    embedding_rate: NonNegative = Field(
        10.0,
        description="`pfedhn`: rate of a new user's embedding over the inner rate",
    )
