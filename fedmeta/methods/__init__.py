"""Each method is a file and a line here."""

from fedmeta.methods.bias import BIAS
from fedmeta.methods.damstf import DAMSTF
from fedmeta.methods.fedavg import FEDAVG, FEDAVG_FT
from fedmeta.methods.fedmd import FEDMD
from fedmeta.methods.fedper import FEDPER
from fedmeta.methods.fedprox import FEDPROX
from fedmeta.methods.local import LOCAL
from fedmeta.methods.maml import FOMAML, MAML
from fedmeta.methods.meta_fine_tuning import META_FINE_TUNING
from fedmeta.methods.meta_sgd import META_SGD
from fedmeta.methods.metaadapt import METAADAPT
from fedmeta.methods.method import Method
from fedmeta.methods.reptile import REPTILE

BASELINES = (LOCAL, BIAS, FEDAVG, FEDAVG_FT, FEDPROX)
DELTA = (REPTILE,)
GRADIENT = (FOMAML, MAML, META_SGD)
SPLIT = (FEDPER,)
DOMAIN = (META_FINE_TUNING, METAADAPT, DAMSTF, FEDMD)

METHODS: dict[str, Method] = {
    method.name: method
    for family in (BASELINES, DELTA, GRADIENT, SPLIT, DOMAIN)
    for method in family
}

__all__ = ["METHODS", "Method"]
