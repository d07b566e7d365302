"""Each method is a file and a line here."""

from fedmeta.methods.alpha_maml import ALPHA_MAML
from fedmeta.methods.anil import ANIL, BOIL
from fedmeta.methods.bias import BIAS
from fedmeta.methods.fedavg import FEDAVG, FEDAVG_FT
from fedmeta.methods.fedper import FEDPER
from fedmeta.methods.fedprox import FEDPROX
from fedmeta.methods.imaml import IMAML
from fedmeta.methods.local import LOCAL
from fedmeta.methods.maml import FOMAML, MAML
from fedmeta.methods.maml_pp import MAML_PP
from fedmeta.methods.meta_sgd import META_SGD
from fedmeta.methods.method import Method
from fedmeta.methods.per_fedavg import PER_FEDAVG
from fedmeta.methods.reptile import REPTILE

BASELINES = (LOCAL, BIAS, FEDAVG, FEDAVG_FT, FEDPROX)
DELTA = (REPTILE, PER_FEDAVG)
GRADIENT = (FOMAML, MAML, META_SGD, ANIL, BOIL, IMAML, MAML_PP, ALPHA_MAML)
SPLIT = (FEDPER,)

METHODS: dict[str, Method] = {
    method.name: method for family in (BASELINES, DELTA, GRADIENT, SPLIT) for method in family
}

__all__ = ["METHODS", "Method"]
