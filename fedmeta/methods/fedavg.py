"""FedAvg, as it is and fine-tuned; with uniform weights it is Reptile with an outer rate of 1."""

from dataclasses import replace

from fedmeta.methods.method import (
    ADAPTING,
    Defaults,
    Method,
    delta,
    fine_tune,
    fine_tuning,
    no_adaptation,
)

FEDAVG = Method(
    name="fedavg",
    family="baseline",
    source="McMahan et al. 2017",
    communicates="delta of the head",
    adapt=no_adaptation,
    contribute=delta,
    private=delta,
    defaults=Defaults(rate=1.0, steps=10),
    newcomer="takes the global model",
    general=True,
    ignores=ADAPTING,
    personalizes=False,
)

FEDAVG_FT = replace(
    FEDAVG,
    name="fedavg-ft",
    source="Jiang et al. 2019; Matsuda et al. 2022",
    adapt=fine_tune,
    walk=fine_tuning,
    newcomer="adapts on the support set",
    ignores=frozenset(),
    personalizes=True,
)
