"""Reptile: move the initialization towards where users end up.

The published server moves by ``rate * mean(phi - theta)``, one step of SGD on the contributions
(Nichol et al. 2018, equation 2): ``server.optimizer = "sgd"``. The default gives the same
direction to Adam (FedOpt, Reddi et al. 2021), which validation users preferred; at an SGD rate
of 1 Reptile is FedAvg.
"""

from fedmeta.methods.method import Defaults, Method, delta, fine_tune, fine_tuning

REPTILE = Method(
    name="reptile",
    family="meta-learning, delta",
    source="Nichol et al. 2018",
    communicates="delta of the head",
    adapt=fine_tune,
    walk=fine_tuning,
    contribute=delta,
    private=delta,
    defaults=Defaults(rate=1.0, steps=10, optimizer="adam", server_rate=0.04),
    general=True,
)
