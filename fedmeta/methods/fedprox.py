"""FedProx: local training held near the global model by a proximal term."""

from dataclasses import replace

from fedmeta.methods.fedavg import FEDAVG_FT

FEDPROX = replace(FEDAVG_FT, name="fedprox", source="Li et al. 2020", proximal=True)
