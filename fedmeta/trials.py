"""Ways to personalize that are parts of one another.

More steps of one descent are the same descent, continued: of those that differ in their number of
steps alone the longest is run once, and looked at on the way. That is exact, to the bit.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from torch import Tensor

from fedmeta.inner import Inner
from fedmeta.learner import Learner
from fedmeta.methods import Method
from fedmeta.types import Params, Task


class Answer(NamedTuple):
    """What an adapted user says of his query.

    Attributes:
        logits: ``(C, Q)``.
        figures: the method's own figures of him, by name.
    """

    logits: Tensor
    figures: dict[str, Tensor]


class Course(NamedTuple):
    """One descent and where on it trials are.

    Attributes:
        inner: how it goes, to its last step.
        shots: support examples that count.
        steps: after which the user is looked at, ascending, all different.
        trials: numbers of the trials.
        at: for each of them, which of the ``steps`` is its.
    """

    inner: Inner
    shots: int
    steps: list[int]
    trials: list[int]
    at: list[int]


def courses(method: Method, trials: Sequence[tuple[Inner, int]]) -> list[Course]:
    """The descents that serve the trials ``(how to descend, support examples)``."""
    alike: dict[tuple[Inner, int], list[int]] = {}
    for number, (inner, shots) in enumerate(trials):
        key = replace(inner, steps=0) if method.walk is not None else inner
        alike.setdefault((key, shots), []).append(number)
    found = []
    for (inner, shots), numbers in alike.items():
        steps = sorted({trials[number][0].steps for number in numbers})
        at = [steps.index(trials[number][0].steps) for number in numbers]
        found.append(Course(replace(inner, steps=steps[-1]), shots, steps, numbers, at))
    return found


def said(
    method: Method,
    learner: Learner,
    start: Params,
    task: Task,
    course: Course,
    figures: bool = False,
) -> list[Answer]:
    """Query logits after each of the course's ``steps``, from what the user starts with.

    With ``figures`` the method's own (:attr:`Method.reports`) stand beside them, of the same
    adapted parameters.
    """
    if method.predict is not None:
        return [Answer(method.predict(learner, start, task, course.inner), {})]
    reports = method.reports if figures else {}

    def answer(phi: Params) -> Answer:
        own = {name: figure(learner, phi, task) for name, figure in reports.items()}
        return Answer(learner.logits(phi, task.query), own)

    if method.walk is None or len(course.steps) == 1:
        return [answer(method.adapt(learner, start, task, course.inner))]
    on_the_way = enumerate(method.walk(learner, start, task, course.inner))
    return [answer(phi) for step, phi in on_the_way if step in course.steps]
