"""How the server sums up a round where some of its users may be malicious."""

from typing import Annotated, Literal

from pydantic import Field

from fedmeta.sections.section import NonNegative, Section


class RobustConfig(Section):
    """The rule of aggregation; docs/attacks.md says what each bears and what it costs."""

    rule: Literal[
        "mean",
        "norm-bound",
        "median",
        "trimmed-mean",
        "krum",
        "multi-krum",
        "bulyan",
        "geometric-median",
        "dissimilar",
    ] = Field("mean", description="how users' contributions become one; mean: trusts everybody")
    byzantine: NonNegative = Field(
        0.2,
        description="malicious users in a round that the rule is to bear: below 1 their share, from"
        " 1 on their number",
    )
    trim: Annotated[float, Field(ge=0.0, lt=0.5)] = Field(
        0.0,
        description="`trimmed-mean`: share of the values left out at each end; 0: as many as"
        " `robust.byzantine`",
    )
    norm_bound: NonNegative = Field(
        1.0,
        description="before every rule but `mean`, a contribution longer than this times the"
        " round's median length is scaled down to it; 0: none is",
    )
