"""Which settings of simulated devices go together; the reason and the remedy where not."""

from fedmeta.config import Config, ConfigError


def active(config: Config) -> bool:
    """Whether devices are simulated at all."""
    of = config.devices
    return of.availability != "off" or of.latency != "off" or of.failure > 0


def check(config: Config) -> None:
    """Refuse settings that contradict each other or would have no effect.

    Raises:
        ConfigError: which, and the remedy.
    """
    of = config.devices
    if of.latency == "off":
        for key in ("deadline", "bandwidth", "example-seconds", "jitter"):
            if value := getattr(of, key.replace("-", "_")):
                raise ConfigError(
                    f"devices.{key} = {value:g} has no effect with devices.latency = 'off', where"
                    " replies take no time; set devices.latency to constant, lognormal or trace"
                )
        if of.availability in ("diurnal", "trace") and not of.overhead_seconds:
            raise ConfigError(
                f"devices.availability = {of.availability!r} changes with time, and with"
                " devices.latency = 'off' the clock stands still; set devices.latency, or"
                " devices.overhead-seconds"
            )
    if of.latency == "trace" and of.example_seconds:
        raise ConfigError(
            f"devices.example-seconds = {of.example_seconds:g}: the seconds of devices.trace are"
            " all of a user's work; set devices.example-seconds = 0"
        )
    reading = "trace" in (of.availability, of.latency)
    if reading and not of.trace:
        raise ConfigError(
            "devices.availability or devices.latency is 'trace', and devices.trace is empty; name"
            " a file with the columns user, start, end (availability) and seconds (latency)"
        )
    if of.trace and not reading:
        raise ConfigError(
            f"devices.trace = {of.trace!r} is not read; set devices.availability or"
            " devices.latency to 'trace'"
        )
    if of.over_selection > 1 and not active(config):
        raise ConfigError(
            f"devices.over-selection = {of.over_selection:g} has no effect where everybody replies"
            " in no time; set devices.latency or devices.failure, or over-selection = 1"
        )
    unit = config.privacy.unit
    if unit != "off" and active(config):
        counted = {
            "user": "counts on cohorts that the server draws at random",
            "example": "counts on users who take part in turn, and charges a late reply too",
        }
        raise ConfigError(
            f"privacy.unit = {unit!r} {counted[unit]}, and with simulated devices who is there and"
            " who is fast decides too; set devices.availability = 'off', devices.latency = 'off'"
            " and devices.failure = 0"
        )
