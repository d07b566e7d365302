"""What a reply of a client must be before it may touch the model: docs/reliability.md."""

from typing import Annotated

from pydantic import AfterValidator, Field

from fedmeta.sections.section import Fraction, Natural, NonNegative, Section


def _ratio(value: float) -> float:
    if 0 < value < 2:
        raise ValueError(
            "below 2 it would refuse honest users, whose norms differ by as much; 0 switches the"
            " rule off"
        )
    return value


class ValidationConfig(Section):
    """Checks of every reply; names, types, shapes, lengths and weights are always checked."""

    max_norm: NonNegative = Field(
        1e6, description="largest L2 norm of what users contribute on the mean; 0: no limit"
    )
    max_ratio: Annotated[NonNegative, AfterValidator(_ratio)] = Field(
        1000.0, description="largest such norm over the median of the replies before; 0: no limit"
    )
    quorum: Fraction = Field(
        0.25,
        description="share of the users asked whose contributions make a round count; below it the"
        " model stays as it is",
    )
    strikes: Natural = Field(
        3, description="bad replies after which a user is not asked again; 0: he always is"
    )
    quarantine: Natural = Field(
        0, description="rounds for which he is not asked; 0: those of the rest of the run"
    )
