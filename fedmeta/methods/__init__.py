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
from fedmeta.methods.knn_per import KNN_PER
from fedmeta.methods.lg_fedavg import LG_FEDAVG
from fedmeta.methods.local import LOCAL
from fedmeta.methods.maml import FOMAML, MAML
from fedmeta.methods.mann import MANN
from fedmeta.methods.meta_networks import META_NETWORKS
from fedmeta.methods.meta_sgd import META_SGD
from fedmeta.methods.method import Method
from fedmeta.methods.pfedme import PFEDME
from fedmeta.methods.protomaml import PROTOMAML, PROTOMAMLN
from fedmeta.methods.protonet import PROTONET, PROTONET_FROZEN
from fedmeta.methods.relation import RELATION
from fedmeta.methods.reptile import REPTILE
from fedmeta.methods.ridge import RIDGE
from fedmeta.methods.siamese import SIAMESE

BASELINES = (LOCAL, BIAS, FEDAVG, FEDAVG_FT, FEDPROX)
DELTA = (REPTILE, PFEDME, DITTO, APFL)
GRADIENT = (FOMAML, MAML, META_SGD)
SPLIT = (FEDPER, FEDREP, FEDBABU, LG_FEDAVG, FEDRECON)
METRIC = (PROTONET_FROZEN, PROTONET, PROTOMAML, PROTOMAMLN, RELATION, SIAMESE, KNN_PER)
MEMORY = (MANN, META_NETWORKS)
CLOSED = (RIDGE,)

METHODS: dict[str, Method] = {
    method.name: method
    for family in (BASELINES, DELTA, GRADIENT, SPLIT, METRIC, MEMORY, CLOSED)
    for method in family
}

__all__ = ["METHODS", "Method"]
