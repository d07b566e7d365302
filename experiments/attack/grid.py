"""Every attack against every rule: one run for each pair, judged on users nobody attacked."""

from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, get_args

from experiments import artifacts
from experiments.attack import cells as files
from experiments.attack import figures, poison
from experiments.attack.attacks import ATTACKS
from experiments.attack.client import Plan, app_of
from experiments.backends.inline import InlineGrid
from experiments.running import Encoded, prepare
from experiments.summary import check_everybody
from fedmeta.config import Config, ConfigError, flatten
from fedmeta.device_rules import active
from fedmeta.methods import METHODS
from fedmeta.problem import build
from fedmeta.sections.robust import RobustConfig
from fedmeta.threads import one_thread
from strategies.app import Outcome, run
from strategies.errors import ClientError
from strategies.events import Listener, ignore

RULES: tuple[str, ...] = get_args(RobustConfig.model_fields["rule"].annotation)


class Asked(NamedTuple):
    """What is to be run: attacks, rules, who attacks."""

    attacks: tuple[str, ...] = tuple(ATTACKS)
    rules: tuple[str, ...] = RULES
    share: float = 0.2
    exact: bool = False


class Attacked(NamedTuple):
    """What was found: the folder, and the content of its ``attack.json``."""

    folder: Path
    content: dict[str, Any]


def attack(
    config: Config,
    asked: Asked,
    out: Path | None = None,
    listeners: Callable[[str], Listener] = lambda label: ignore,
    encoded: Encoded | None = None,
    resume: Path | None = None,
    finished: Callable[[int, int], None] = lambda done, total: None,
) -> Attacked:
    """Run every attack against every rule; pairs that a resumed folder holds are not run again.

    Args:
        config: of all runs, with the defence in `robust.rule`. They run in this process, chunks are
            whole rounds, users that fail are left out, and the model of the last round is judged:
            validation users, who are honest, would choose one from before the damage.
        asked: what is to be run; a run without an attack and with the mean is always among them.
        out: folder, new or empty.
        listeners: gives a listener for each run.
        encoded: told about the encoding of texts.
        resume: folder of a grid that was left.
        finished: told (runs done, runs in all) after each run.

    Raises:
        ConfigError, ValueError: settings or data that cannot be run.
        ClientError: a run that nobody attacks has ended early.
    """
    asked = _checked(asked)
    if resume is None:
        artifacts.check_folder(out or config.run.out)
    config = _settled(config)
    prepare(_with(config, "mean"), encoded)
    fits, left_out = _fitting(config, asked.rules)
    marked = None
    if any(ATTACKS[name].data == "trigger" for name in asked.attacks):
        marked = poison.triggered(build(_with(config, "mean")), encoded)
    who = {"share": asked.share, "exact": asked.exact}
    store = build(_with(config, "mean")).population.store
    _check_anybody(config, asked, len(store.users("train")))
    folder = files.folder_of(config, who, out, resume)
    artifacts.pin(folder, config, store, resume is not None)
    pairs = [(a, r) for r, a in product(fits, asked.attacks)]
    cells: dict[tuple[str, str], dict[str, Any]] = {}
    with artifacts.hold(folder):
        for number, (name, rule) in enumerate(pairs):
            path = folder / files.CELLS / f"{name}--{rule}.json"
            if (cell := files.read(path)) is None:
                plan = Plan(ATTACKS[name], asked.share, asked.exact, marked)
                made = _cell(_with(config, rule), plan, listeners(f"{name} / {rule}"))
                cell = files.write(path, made)
            cells[name, rule] = cell
            if name == "none" and cells[name, rule]["died"]:
                raise ClientError(f"{rule}, without attack: {cells[name, rule]['died']}")
            finished(number + 1, len(pairs))
        defence = config.robust.rule if config.robust.rule in fits else "mean"
        content = figures.content(_with(config, "mean"), cells, who, defence)
        content["left_out"] = left_out
        artifacts.write_json(folder / "attack.json", content)
        figures.write(folder / "attack.parquet", _with(config, "mean"), cells)
    return Attacked(folder, content)


def _checked(asked: Asked) -> Asked:
    for option, names, known in (
        ("--attacks", asked.attacks, tuple(ATTACKS)), ("--rules", asked.rules, RULES),
    ):  # fmt: skip
        unknown = [name for name in names if name not in known]
        if unknown or not names:
            raise ConfigError(f"{option} {','.join(names)!r}: expected some of {', '.join(known)}")
    if not 0.0 < asked.share < 0.5:
        raise ConfigError(
            f"--share {asked.share:g}: expected a share above 0 and below 0.5; no rule bears half"
        )
    # Losses are against the mean that nobody attacks.
    return asked._replace(
        attacks=tuple(dict.fromkeys(("none", *asked.attacks))),
        rules=tuple(dict.fromkeys(("mean", *asked.rules))),
    )


def _check_anybody(config: Config, asked: Asked, training: int) -> None:
    """Refuse a share of which nobody attacks: the table would say that no attack does harm."""
    among = min(config.federation.users_per_round, training) if asked.exact else training
    if not round(asked.share * among):
        where = "of a round" if asked.exact else "of training"
        raise ConfigError(
            f"--share {asked.share:g} of {among} users {where} is nobody; use {1 / among:.2g} or"
            " more"
        )


def _settled(config: Config) -> Config:
    """What all runs have in common."""
    federation, evaluation = config.federation, config.evaluation
    if not federation.rounds:
        raise ConfigError("federation.rounds = 0: without a round there is nothing to attack")
    _check_who_sends(config)
    shots = f"0,{config.data.support}"
    return config.model_copy(
        update={
            "federation": federation.model_copy(update={"chunk": federation.users_per_round}),
            "evaluation": evaluation.model_copy(
                update={"every": federation.rounds, "shots": shots}
            ),
            # Rules are shown by themselves: the checks of sizes would see most attacks off.
            "validation": config.validation.model_copy(
                update={"max_norm": 0.0, "max_ratio": 0.0, "strikes": 0}
            ),
            "run": config.run.model_copy(
                update={"backend": "inline", "on_client_error": "skip", "out": ""}
            ),
        }
    )


def _check_who_sends(config: Config) -> None:
    """Refuse what attackers here could not attack, or would attack from rounds they are not in."""
    name = config.method.name
    method = METHODS.get(name)  # that there is one is checked with the rest
    if method is not None and (method.contribute is None or method.generator is not None):
        why = (
            "users send nothing"
            if method.contribute is None
            else "each user is sent parameters of his own"
        )
        raise ConfigError(
            f"method.name = {name!r}: {why}, which attackers here cannot attack; use a method such"
            " as reptile, fedavg-ft or maml"
        )
    if active(config):
        raise ConfigError(
            "devices: attackers know a round by the server's draw alone, and with simulated devices"
            " who is there decides too; set devices.availability = 'off', devices.latency = 'off'"
            " and devices.failure = 0"
        )
    if config.privacy.unit == "example":
        raise ConfigError(
            "privacy.unit = 'example': attackers change single users' updates, and a private chunk"
            " gives the sum of its users alone; set privacy.unit = 'off'"
        )


def _with(config: Config, rule: str) -> Config:
    return config.model_copy(update={"robust": config.robust.model_copy(update={"rule": rule})})


def _fitting(config: Config, rules: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The rules that can work here, and why others cannot."""
    fits, left_out = [], {}
    for rule in rules:
        try:
            build(_with(config, rule))
            fits.append(rule)
        except ConfigError as error:
            left_out[rule] = str(error)
    if fits == ["mean"] and left_out:
        raise ConfigError(next(iter(left_out.values())))
    return fits, left_out


def _cell(config: Config, plan: Plan, listener: Listener) -> dict[str, Any]:
    """One run: users' scores before and after, and how often the trigger works."""
    problem = build(config)
    try:
        with one_thread(), TemporaryDirectory() as memory:
            values = flatten(problem.config) | {"run.memory": memory}
            outcome = run(InlineGrid(app_of(plan), values), problem, listener)
            check_everybody(outcome)
            success = None
            if plan.marked is not None:
                success = poison.success(problem, outcome.meta, plan.marked)
    except ClientError as error:
        return {"died": _reason(error), "success": None}
    return {"died": None, **_scores(outcome), "success": success}


def _reason(error: ClientError) -> str:
    """Why a run ended: the first line, and of a traceback also the last, which says it."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{lines[0]} {lines[-1]}" if "Traceback" in lines[0] else lines[0]


def _scores(outcome: Outcome) -> dict[str, Any]:
    """The measure of each test user, in the order of the users, and the mean of validation users.

    A rule is chosen by the latter.
    """
    before, after = outcome.scores["test"][[0, -1], 0]
    valid = float(outcome.scores["valid"][-1, 0].mean())
    return {"before": before.tolist(), "after": after.tolist(), "valid": valid}
