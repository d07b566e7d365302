"""Local: every user alone, from the initialization. What federation has to beat."""

from fedmeta.methods.method import Defaults, Method, fine_tune, fine_tuning

LOCAL = Method(
    name="local",
    family="baseline",
    source="no federation",
    communicates="nothing",
    adapt=fine_tune,
    walk=fine_tuning,
    contribute=None,
    newcomer="trains alone",
    cost="no bytes",
    defaults=Defaults(rate=2.0, steps=20),
)
