"""Where users come from, and the frozen encoder of their examples."""

from typing import Annotated, Literal

from pydantic import Field

from fedmeta.sections.section import Count, Fraction, Natural, NonNegative, Section, Seed


class DataConfig(Section):
    """Where users come from and how their examples are split."""

    source: str = Field(
        "preferences", description="`preferences`, `digits`, `sinusoid`, `hf:NAME`, or a file"
    )
    support: Count = Field(20, description="examples (K) that a user adapts on")
    query: Count = Field(64, description="most query examples of a training user in one round")
    min_examples: Natural = Field(
        0, description="drop users with fewer examples; 0: `data.support` + 1"
    )
    unseen_items: bool = Field(
        False, description="score `item_fold` 4 only, train and adapt on the other folds"
    )
    task: Literal["auto", "classification", "regression"] = Field(
        "auto", description="auto: regression for non-integer numeric targets"
    )
    tasks: Literal["user", "cross-domain", "cross-problem", "domain-generalization", "episodic"] = (
        Field("user", description="how tasks are made of the examples; see docs/tasks.md")
    )
    problems: str = Field(
        "", description="`cross-problem`: comma-separated sources; the last is met in test only"
    )
    way: Annotated[int, Field(ge=2)] = Field(5, description="`episodic`: classes of an episode")
    variable: bool = Field(
        False, description="`episodic`: 2 to `data.way` classes, unequal shots, smaller supports"
    )
    rotations: bool = Field(
        False, description="`episodic`: training images turned by quarters are further classes"
    )
    standardize: Literal["auto", "none", "features"] = Field(
        "auto", description="scale features by train users' statistics; auto: tabular data only"
    )
    seed: Seed = Field(0, description="seed of generated data, partitions and user splits")
    users: Count = Field(1000, description="generator and partitioners: number of users")
    heterogeneity: Fraction = Field(
        1.0, description="`preferences`: how much tastes differ; 0 all alike, 1 all different"
    )
    prior_heterogeneity: Fraction = Field(
        0.0, description="`preferences`: how much users differ in how often they want a message"
    )
    feature_heterogeneity: Fraction = Field(
        0.0, description="`preferences`: how much users see only messages of a topic of their own"
    )
    label_noise: Annotated[float, Field(ge=0.0, lt=0.5)] = Field(
        0.05, description="`preferences`: probability that a label is flipped"
    )
    domains: Count = Field(
        1, description="`preferences`: groups of users who share a shift of taste; 1: none"
    )
    examples: Count = Field(60, description="`preferences`: median examples per user")
    examples_spread: NonNegative = Field(
        0.4, description="`preferences`: standard deviation of the log of examples per user"
    )
    messages: Count = Field(2400, description="`preferences`: size of the pool of messages")
    partitioner: Literal["auto", "iid", "dirichlet", "pathological", "natural"] = Field(
        "auto", description="how `hf:` and `digits` data become users; auto: natural or dirichlet"
    )
    alpha: Annotated[float, Field(gt=0.0)] = Field(
        0.5, description="concentration of the Dirichlet partitioner"
    )
    classes_per_user: Count = Field(2, description="pathological partitioner: classes of a user")
    hf_subset: str = Field("", description="`hf:`: configuration name of the data set")
    hf_split: str = Field("train", description="`hf:`: split that is partitioned over users")
    user_column: str = Field("user", description="column of the user id")
    text_column: str = Field("text", description="column of the text")
    image_column: str = Field("image", description="column of the image")
    label_column: str = Field("label", description="column of the label or target")
    split_column: str = Field("split", description="column of train / valid / test, by user")
    fold_column: str = Field("item_fold", description="column of the item's fold")
    class_split_column: str = Field(
        "class_split", description="`episodic`: column of train / valid / test, by class"
    )
    domain_column: str = Field(
        "",
        description="column of the domain, such as `community` or `lang`; `preferences`: `topic`,"
        " `tone`, `urgency` or `sender`; empty: none",
    )
    public: str = Field(
        "",
        description="file of items without labels that everyone may see, for `fedmd`; empty:"
        " messages of their own for `preferences`, else items of training users, with a warning",
    )
    window: Natural = Field(
        0,
        description="texts become windows of so many characters, labelled by the next one; 0: no",
    )
    stride: Natural = Field(
        0, description="`data.window`: characters from one window to the next; 0: data.window"
    )
    feature_columns: str = Field(
        "auto", description="comma-separated feature columns; auto: all other numeric columns"
    )


class BackboneConfig(Section):
    """The frozen encoder; features are computed once and cached."""

    name: str = Field(
        "auto",
        description="`minilm`, `hashing`, `identity`, a hub id, a folder, or texts' encoders joined"
        " by `+`; auto: by the data",
    )
    max_length: Count = Field(128, description="most tokens of a text")
    columns: Count = Field(512, description="`hashing`: width of the features")
    output: Literal["auto", "mean", "cls", "tokens"] = Field(
        "auto",
        description="what an encoder gives of a text: the mean of its tokens, the first, or all"
        " (cached in half precision); auto: what the head takes",
    )
    layers: Natural = Field(
        0, description="layers of the encoder that are run; 0: all (a smaller encoder is cut)"
    )
    batch: Count = Field(64, description="texts per forward pass")
    cache: str = Field("", description="cache folder; empty: $FEDMETA_CACHE or ~/.cache/fedmeta")
