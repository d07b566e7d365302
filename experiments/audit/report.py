"""``fedmeta audit``: three attacks on one mechanism, and the claim beside them."""

import json
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from experiments import artifacts
from experiments.audit import canary, inversion, membership
from experiments.epsilon import mechanism_of
from experiments.plain import plain
from fedmeta.config import Config, ConfigError
from fedmeta.methods import METHODS

PARTS = ("canaries", "inversion", "membership")
TRIALS = 50
"""Users whose example is read."""


def run(
    config: Config, parts: tuple[str, ...], users: int | None, count: int, repeats: int = 1
) -> dict[str, Any]:
    """The parts that are asked for, by name.

    Args:
        config: what would be run; its data are read for the number of users alone.
        parts: of :data:`PARTS`; none: all.
        users: training users; None: as many as the data have.
        count: canaries.
        repeats: audits under seeds of their own.

    Raises:
        ConfigError: privacy is off, an unknown part, a mechanism that cannot be attacked.
    """
    if unknown := [part for part in parts if part not in PARTS]:
        raise ConfigError(f"--parts {unknown[0]!r}: expected some of {', '.join(PARTS)}")
    if config.privacy.unit == "off":
        raise ConfigError(
            "privacy.unit = 'off': nothing is claimed, so there is nothing to audit; set it to"
            " 'example' or 'user', and privacy.noise-multiplier"
        )
    if config.method.name not in METHODS:
        raise ConfigError(
            f"method.name = {config.method.name!r}: expected one of {', '.join(METHODS)}"
        )
    if users is not None and users < 1:
        raise ConfigError(f"--users {users}: expected 1 or more training users")
    if repeats < 1:
        raise ConfigError(f"--repeats {repeats}: expected 1 or more audits")
    privacy, _, _ = mechanism_of(config, users)
    out: dict[str, Any] = {}
    if not parts or "canaries" in parts:
        out["canaries"] = [
            canary.audit(_seeded(config, number), privacy, count, power=not number)
            for number in range(repeats)
        ]
    if not parts or "inversion" in parts:
        out["inversion"] = inversion.invert(config, privacy, TRIALS)
    if not parts or "membership" in parts:
        out["membership"] = membership.infer(config, privacy)
    return out


def write(found: dict[str, Any], path: Path) -> None:
    """The result as JSON.

    Raises:
        ConfigError: the file cannot be written.
    """
    try:
        path.write_text(json.dumps(plain(found), indent=2) + "\n")
    except OSError as error:
        raise ConfigError(f"--out {str(path)!r}: {error.strerror}; name another file") from None


def keep(config: Config, found: dict[str, Any], flags: dict[str, Any], out: Path | None) -> Path:
    """A folder with ``config.toml``, ``audit.json`` and what was asked for; where it is.

    Raises:
        ConfigError: the folder is in use, or cannot be made.
    """
    folder = artifacts.make_folder(out or config.run.out, "audit")
    artifacts.write_config(folder, config)
    asked = [word for k, v in flags.items() if v not in (None, "") for word in (f"--{k}", str(v))]
    artifacts.write_json(folder / "audit.json", found | {"asked": asked})
    return folder


def table(found: dict[str, Any]) -> RenderableType:
    """What :func:`run` found, for people."""
    out = Table(title="what attacks find, beside what is claimed")
    for heading in ("attack", "finds", "without privacy", "allowed"):
        out.add_column(heading)
    lines: list[str] = []
    for number, one in enumerate(found.get("canaries", [])):
        _canaries(out, lines, one, number)
    if read := found.get("inversion"):
        for title, key in (("one round", ""), (f"{read['rounds']} rounds", "_all")):
            out.add_row(
                f"a user's one example read, {title}: cosine, label",
                f"{read['on']['cosine' + key]:.3f}, {read['on']['label' + key]:.0%}",
                f"{read['off']['cosine' + key]:.3f}, {read['off']['label' + key]:.0%}",
                f"label by chance {read['chance']:.0%}",
            )
    if member := found.get("membership"):
        bound = member["bound"]
        out.add_row(
            f"membership by {member['attacked']}: AUC",
            f"{member['on']:.3f}",
            f"{member['off']:.3f}",
            "-" if bound is None else f"{bound:.3f} (epsilon {member['epsilon']:.3g})",
        )
    return Group(out, *(Text(line) for line in lines))


def _canaries(out: Table, lines: list[str], one: dict[str, Any], number: int) -> None:
    told = "none" if one["claimed"] is None else f"{one['claimed']:.3g}"
    out.add_row(
        f"{one['canaries']} canaries, {one['right']} of {one['guesses']} guesses right: epsilon",
        f"at least {one['lower_bound']:.3g}" + (" REFUTES THE CLAIM" if one["refuted"] else ""),
        "-",
        f"{told} at delta {one['delta']:g}",
    )
    out.add_row(
        "the same, if its noise is Gaussian of whatever size",
        f"at least {one['lower_bound_curve']:.3g}"
        + (" REFUTES THE CLAIM" if one["refuted_curve"] else ""),
        "-",
        told,
    )
    if number:
        return
    could, caught = one["power"], one["power"]["caught_at_a_third"]
    lines.append(
        f"canaries saw {one['seen']} of {one['rounds']} rounds, at confidence 95 %; right noise"
        f" gives {could['at_claimed_noise']:.3g}, a third of it {could['at_a_third']:.3g}"
        + ("" if caught is None else f" (caught in {caught:.0%} of runs)")
        + f"; by the whole curve right noise gives {could['curve_at_claimed_noise']:.3g}"
        + f"; it can find at most {could['largest']:.3g}, and no claim above that is refuted"
    )


def _seeded(config: Config, number: int) -> Config:
    run = config.run.model_copy(update={"seed": config.run.seed + number})
    return config.model_copy(update={"run": run})
