"""Reptile: move the initialization towards where users end up.

The update of the server, ``theta + rate * mean(phi - theta)``, is one step of SGD on the
contributions; the outer rate decays linearly to zero (Nichol et al. 2018, section 6).
"""

from fedmeta.methods.method import Defaults, Method, delta, fine_tune

REPTILE = Method(
    name="reptile",
    family="meta-learning, delta",
    source="Nichol et al. 2018",
    communicates="delta of the head",
    adapt=fine_tune,
    contribute=delta,
    defaults=Defaults(rate=1.0, steps=10, server_rate=0.5),
)
