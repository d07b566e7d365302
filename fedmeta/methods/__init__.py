"""Each method is a file and a line here."""

from fedmeta.methods.alpha_maml import ALPHA_MAML
from fedmeta.methods.anil import ANIL, BOIL
from fedmeta.methods.apfl import APFL
from fedmeta.methods.bias import BIAS
from fedmeta.methods.damstf import DAMSTF
from fedmeta.methods.ditto import DITTO
from fedmeta.methods.fedavg import FEDAVG, FEDAVG_FT
from fedmeta.methods.fedbabu import FEDBABU
from fedmeta.methods.fedmd import FEDMD
from fedmeta.methods.fedper import FEDPER
from fedmeta.methods.fedprox import FEDPROX
from fedmeta.methods.fedrecon import FEDRECON
from fedmeta.methods.fedrep import FEDREP
from fedmeta.methods.imaml import IMAML
from fedmeta.methods.knn_per import KNN_PER
from fedmeta.methods.lg_fedavg import LG_FEDAVG
from fedmeta.methods.local import LOCAL
from fedmeta.methods.maml import FOMAML, MAML
from fedmeta.methods.maml_pp import MAML_PP
from fedmeta.methods.mann import MANN
from fedmeta.methods.meta_fine_tuning import META_FINE_TUNING
from fedmeta.methods.meta_init import META_INIT
from fedmeta.methods.meta_networks import META_NETWORKS
from fedmeta.methods.meta_sgd import META_SGD
from fedmeta.methods.metaadapt import METAADAPT
from fedmeta.methods.method import Method
from fedmeta.methods.mmoe import MMOE
from fedmeta.methods.multi_task import MULTI_TASK
from fedmeta.methods.per_fedavg import PER_FEDAVG
from fedmeta.methods.pfedhn import PFEDHN
from fedmeta.methods.pfedme import PFEDME
from fedmeta.methods.protomaml import PROTOMAML, PROTOMAMLN
from fedmeta.methods.protonet import PROTONET, PROTONET_FROZEN
from fedmeta.methods.relation import RELATION
from fedmeta.methods.reptile import REPTILE
from fedmeta.methods.ridge import RIDGE
from fedmeta.methods.scale_shift import SCALE_SHIFT
from fedmeta.methods.siamese import SIAMESE

BASELINES = (LOCAL, BIAS, FEDAVG, FEDAVG_FT, FEDPROX)
DELTA = (REPTILE, PER_FEDAVG, PFEDME, DITTO, APFL)
GRADIENT = (FOMAML, MAML, META_SGD, ANIL, BOIL, IMAML, MAML_PP, ALPHA_MAML)
SPLIT = (FEDPER, FEDREP, FEDBABU, LG_FEDAVG, FEDRECON)
METRIC = (PROTONET_FROZEN, PROTONET, PROTOMAML, PROTOMAMLN, RELATION, SIAMESE, KNN_PER)
MEMORY = (MANN, META_NETWORKS)
CLOSED = (RIDGE,)
MIXTURE = (MMOE, MULTI_TASK, SCALE_SHIFT)
GENERATED = (PFEDHN, META_INIT)
DOMAIN = (META_FINE_TUNING, METAADAPT, DAMSTF, FEDMD)

METHODS: dict[str, Method] = {
    method.name: method
    for family in (
        BASELINES,
        DELTA,
        GRADIENT,
        SPLIT,
        METRIC,
        MEMORY,
        CLOSED,
        MIXTURE,
        GENERATED,
        DOMAIN,
    )
    for method in family
}

__all__ = ["METHODS", "Method"]
