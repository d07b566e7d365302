"""Meta-Transfer Learning: users learn the classifier, the meta-learner scales and shifts.

The encoder is frozen; what is learned from all users is a scale and a shift of each of its
channels and where the classifier starts. A user's inner loop moves the classifier alone, and the
query loss is differentiated through all of it (Sun et al. 2019, equations 3 to 5). That is ANIL
on the head `scale-shift`. Their resampling of the worst class is left out: it needs to know
other users' errors.
"""

from collections.abc import Iterator

from fedmeta.inner import Inner, walk
from fedmeta.learner import Learner
from fedmeta.methods.method import Defaults, Method, ending, through
from fedmeta.params import is_output
from fedmeta.types import Params, Task


def _walk(learner: Learner, theta: Params, task: Task, inner: Inner) -> Iterator[Params]:
    return walk(learner, theta, task.support, inner, block=is_output)


_adapt = ending(_walk)


SCALE_SHIFT = Method(
    name="scale-shift",
    family="multi-task and mixture",
    source="Meta-Transfer Learning, Sun et al. 2019",
    communicates="meta-gradient of scale, shift and the classifier's start",
    adapt=_adapt,
    walk=_walk,
    block=is_output,
    contribute=through(_adapt),
    defaults=Defaults(rate=4.0, steps=10, optimizer="adam", server_rate=0.02),
    cost="bytes of a linear head and 2 numbers per feature; gradients through all steps",
    splits=True,
    head="scale-shift",
)
