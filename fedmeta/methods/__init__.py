"""Each method is a file and a line here."""

from fedmeta.methods.apfl import APFL
from fedmeta.methods.bias import BIAS
from fedmeta.methods.ditto import DITTO
from fedmeta.methods.fedavg import FEDAVG, FEDAVG_FT
from fedmeta.methods.fedbabu import FEDBABU
from fedmeta.methods.fedper import FEDPER
from fedmeta.methods.fedprox import FEDPROX
from fedmeta.methods.fedrecon import FEDRECON
from fedmeta.methods.fedrep import FEDREP
from fedmeta.methods.lg_fedavg import LG_FEDAVG
from fedmeta.methods.local import LOCAL
from fedmeta.methods.maml import FOMAML, MAML
from fedmeta.methods.meta_sgd import META_SGD
from fedmeta.methods.method import Method
from fedmeta.methods.mmoe import MMOE
from fedmeta.methods.multi_task import MULTI_TASK
from fedmeta.methods.pfedhn import PFEDHN
from fedmeta.methods.pfedme import PFEDME
from fedmeta.methods.reptile import REPTILE
from fedmeta.methods.scale_shift import SCALE_SHIFT

BASELINES = (LOCAL, BIAS, FEDAVG, FEDAVG_FT, FEDPROX)
DELTA = (REPTILE, PFEDME, DITTO, APFL)
GRADIENT = (FOMAML, MAML, META_SGD)
SPLIT = (FEDPER, FEDREP, FEDBABU, LG_FEDAVG, FEDRECON)
MIXTURE = (MMOE, MULTI_TASK, SCALE_SHIFT)
GENERATED = (PFEDHN,)

METHODS: dict[str, Method] = {
    method.name: method
    for family in (BASELINES, DELTA, GRADIENT, SPLIT, MIXTURE, GENERATED)
    for method in family
}

__all__ = ["METHODS", "Method"]
