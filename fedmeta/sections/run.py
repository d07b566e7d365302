"""Server, rounds, evaluation, and where a run is executed."""

from typing import Annotated, Literal

from pydantic import Field

from fedmeta.sections.section import Count, Natural, NonNegative, Positive, Section, Seed


class ServerConfig(Section):
    """The outer optimizer, which keeps its state across rounds."""

    optimizer: Literal["auto", "sgd", "momentum", "adam", "yogi", "hypergradient"] = Field(
        "auto", description="auto: the method's default"
    )
    rate: NonNegative = Field(0.0, description="outer learning rate; 0: the method's default")
    schedule: Literal["auto", "constant", "linear", "cosine"] = Field(
        "auto",
        description="how the outer rate falls to 0 over the rounds; auto: the method's default",
    )
    hyper_rate: NonNegative = Field(
        0.2,
        description="`hypergradient`: most that the logarithm of the outer rate moves in a round",
    )
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        0.9, description="`momentum`, and beta1 of `adam`, `yogi` and `hypergradient`"
    )
    beta2: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        0.99, description="`adam`, `yogi`, `hypergradient`"
    )
    epsilon: Annotated[float, Field(gt=0.0)] = Field(
        1e-3, description="`adam`, `yogi`, `hypergradient`"
    )


class FederationConfig(Section):
    """Rounds and cohorts."""

    rounds: Natural = Field(150, description="communication rounds")
    users_per_round: Count = Field(50, description="users sampled in a round")
    chunk: Count = Field(25, description="users per message and batched program")
    weighting: Literal["uniform", "examples"] = Field(
        "uniform", description="weight of a user's contribution"
    )


class EvaluationConfig(Section):
    """How models are judged; the protocol is described in docs/protocol.md."""

    every: Count = Field(10, description="rounds between evaluations on validation users")
    shots: str = Field("0,1,2,5,10,20", description="support sizes of the adaptation curve")
    tune: bool = Field(
        True, description="choose rate and steps of personalization on validation users"
    )
    target: NonNegative = Field(
        0.0,
        description="measure of validation users of which it is told when it was reached; 0:"
        " `compare` with simulated devices takes the median of the methods' best",
    )
    bootstrap: Annotated[int, Field(ge=100)] = Field(
        2000, description="bootstrap resamples of the users"
    )


class RunConfig(Section):
    """Where and how the run is executed; only `seed` changes what comes out."""

    name: str = Field("", description="name of the run; empty: the method's")
    out: str = Field("", description="folder of the artefacts; empty: `runs/<time>-<name>`")
    seed: Seed = Field(0, description="seed of initialization, cohorts and support draws")
    backend: Literal["ray", "inline"] = Field("ray", description="where clients run")
    workers: Natural = Field(0, description="worker nodes; 0: one per CPU or GPU")
    memory: str = Field(
        "", description="folder of what users own between rounds; empty: in the run's folder"
    )
    canaries: Natural = Field(
        200,
        description="with privacy: canaries of the audit whose lower bound stands beside epsilon;"
        " 0: no audit",
    )
    checkpoint_every: Natural = Field(
        1,
        description="rounds between checkpoints, from which `--resume` goes on, at most one a"
        " second (every round where users own something); 0: none",
    )
    memory_limit: Natural = Field(
        0, description="Ray: most private memory of a worker in MB; 0: no limit"
    )
    report: bool = Field(True, description="write `report.html` when a command has ended")
    timeout: Positive = Field(
        120.0, description="deployment: seconds to wait for the replies of a round"
    )
    device: str = Field("cpu", description="`cpu`, `cuda` or `cuda:N`")
    on_client_error: Literal["fail", "skip"] = Field(
        "fail",
        description="end the run, or go on without the failed users, as runs with `privacy.unit`"
        " = `user` always do",
    )
    track: str = Field(
        "",
        description="programs that runs are told to as they go on, separated by commas:"
        " `tensorboard`, `mlflow`, `wandb` (docs/tracking.md)",
    )
