"""The simulated devices of the users: when they are there, how fast, and how reliable."""

from typing import Annotated, Literal

from pydantic import Field

from fedmeta.sections.section import Fraction, NonNegative, Positive, Section

Spread = Annotated[float, Field(ge=0.0, le=5.0)]


class DevicesConfig(Section):
    """Dropout, stragglers and a simulated clock, in simulation only; see docs/devices.md."""

    availability: Literal["off", "constant", "diurnal", "trace"] = Field(
        "off", description="who can be selected; off: everybody; trace: by `devices.trace`"
    )
    available_share: Fraction = Field(
        0.5, description="`constant`, `diurnal`: mean share of the users who are available"
    )
    day_seconds: Positive = Field(86400.0, description="`diurnal`: length of a day")
    phase_spread: Fraction = Field(
        0.0, description="`diurnal`: share of the day over which users' time zones are spread"
    )
    failure: Fraction = Field(0.0, description="chance that a selected user drops in mid-round")
    latency: Literal["off", "constant", "lognormal", "trace"] = Field(
        "off", description="how long users take; off: no time; trace: `seconds` of `devices.trace`"
    )
    latency_seconds: Positive = Field(
        10.0, description="`constant`: seconds of a round on a device; `lognormal`: their median"
    )
    latency_sigma: Spread = Field(
        0.5,
        description="`lognormal`: standard deviation of the logarithm of users' slowness, drawn"
        " once for each user",
    )
    jitter: Spread = Field(
        0.0,
        description="standard deviation of the logarithm of a factor that is drawn anew for each"
        " user and round",
    )
    example_seconds: NonNegative = Field(
        0.0, description="seconds for each example and inner step, times the user's slowness"
    )
    bandwidth: NonNegative = Field(
        0.0,
        description="bytes per second, by which the parameters go down and up; 0: in no time",
    )
    trace: str = Field("", description="table of users' intervals and seconds; see docs/devices.md")
    over_selection: Annotated[float, Field(ge=1.0, le=100.0)] = Field(
        1.0,
        description="users selected over `federation.users-per-round`; the first to reply count",
    )
    deadline: NonNegative = Field(
        0.0, description="seconds after which a round takes no more replies; 0: it waits for them"
    )
    overhead_seconds: NonNegative = Field(
        0.0, description="seconds that the server itself takes in a round"
    )
    retry_seconds: Positive = Field(
        60.0, description="seconds that a round takes in which nobody is available"
    )
