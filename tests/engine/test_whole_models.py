"""The contract of the heads that are not a vector's: whole models, tokens, encoders in the loop."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fedmeta import cohort
from fedmeta.heads import HEADS, Given, HeadError
from fedmeta.heads.settled import GROUP
from fedmeta.inner import Inner
from fedmeta.learner import Primal
from fedmeta.methods import METHODS
from fedmeta.params import add
from fedmeta.sections.method import HeadConfig
from fedmeta.types import Params
from tests.engine.cases import distance, model_of, one_by_one, only, select, theta_of
from tests.engine.cases import tasks as vectors
from tests.engine.whole import (
    LETTERS,
    OPTIONS,
    PAIRS,
    SIDE,
    SIZES,
    TOKENS,
    folder,
    pad,
    whole_model,
    whole_tasks,
)

EXACT = 1e-10
"""Relative, in float64: derivatives through a normalization lose two more digits."""
INNER = Inner(0.1, 2)


def total(name: str, head: str, seed: int, inner: Inner = INNER, **changes: object) -> Params:
    method, model = METHODS[name], whole_model(head)
    theta = theta_of(method, model, 3)
    task = changes.get("task", whole_tasks(head, seed))
    return cohort.contribute(method, model, theta, task, inner).total  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "head"), PAIRS)
def test_the_contract(name: str, head: str) -> None:
    """A chunk is a loop over single users, padding and order change nothing, chunks add up."""
    method, model, task = METHODS[name], whole_model(head), whole_tasks(head, 1)
    theta = theta_of(method, model, 3)
    inner = Inner(0.1, 2, batch=2 if method.batches and "batch" not in method.ignores else 0)
    found = total(name, head, 1, inner)
    assert distance(found, one_by_one(method, model, theta, task, inner)) < EXACT
    assert {n: v.shape for n, v in found.items()} == {n: theta[n].shape for n in found}
    assert all(v.isfinite().all() for v in found.values())
    changed = select(pad(task, 2), [2, 0, 1])
    assert distance(total(name, head, 1, inner, task=changed), found) < EXACT
    parts = [total(name, head, 1, inner, task=select(task, users)) for users in ([0], [1, 2])]
    assert distance(add(parts[0], parts[1]), found) < EXACT
    other = whole_tasks(head, 2)
    support = total(name, head, 1, inner, task=task._replace(support=other.support))
    query = total(name, head, 1, inner, task=task._replace(query=other.query))
    assert distance(support, found) > 1e-3
    assert (distance(query, found) > 1e-3) == method.splits


@pytest.mark.parametrize(("name", "head"), [("maml", "conv4"), ("anil", "gru"), ("maml", "lora")])
def test_newcomers_are_predicted_as_if_alone(name: str, head: str) -> None:
    method, model, task = METHODS[name], whole_model(head), whole_tasks(head, 1)
    theta = theta_of(method, model, 3)
    trial = cohort.Trial(INNER, 4)
    (logits,) = cohort.predict(method, model, theta, task, [trial])
    mine = only(task, 1)
    phi = method.adapt(Primal(model), theta, mine, INNER)
    expected = Primal(model).logits(phi, mine.query)
    assert torch.allclose(logits[1], expected, atol=1e-10)


@pytest.mark.parametrize(
    ("name", "made", "as_usual"),
    [("protonet", "proto", "mlp"), ("protomaml", "proto", "mlp"), ("ridge", "ridge", "mlp")],
)
def test_a_made_head_is_the_trunk_under_the_method(name: str, made: str, as_usual: str) -> None:
    """The row of the head and the row of the method are one thing, to the bit."""
    method, task = METHODS[name], vectors(4)
    theta = theta_of(method, model_of("mlp"), 5)
    found = [
        cohort.contribute(method, model_of(head), theta, task, INNER).total
        for head in (made, as_usual)
    ]
    assert all(torch.equal(found[0][n], found[1][n]) for n in found[1])


def plain_conv4(params: Params, x: Tensor) -> Tensor:
    """The textbook's order: convolution, normalization of groups, shift, ReLU, maximum."""
    for block in range(4):
        x = F.conv2d(x, params[f"conv{block}.weight"], padding=1)
        x = F.group_norm(x, x.shape[1] // GROUP)
        x = F.max_pool2d(F.relu(x + params[f"conv{block}.bias"][:, None, None]), 2)
    return x.flatten(1) @ params["output.weight"].mT + params["output.bias"]


def test_conv4_is_the_textbooks_network_and_so_is_its_meta_gradient() -> None:
    model, task = whole_model("conv4"), whole_tasks("conv4", 1)
    theta = theta_of(METHODS["maml"], model, 3)
    sums = {name: torch.zeros_like(value) for name, value in theta.items()}
    for user in range(len(SIZES)):
        mine = only(task, user)
        if not len(mine.query.weight):
            continue
        meta = {name: value.clone().requires_grad_() for name, value in theta.items()}
        phi = dict(meta)
        for _ in range(INNER.steps):
            loss = entropy(phi, mine.support.x, mine.support.y)
            g = torch.autograd.grad(loss, list(phi.values()), create_graph=True)
            phi = {n: v - INNER.rate * d for (n, v), d in zip(phi.items(), g, strict=True)}
        g = torch.autograd.grad(entropy(phi, mine.query.x, mine.query.y), list(meta.values()))
        sums = {n: v + d for (n, v), d in zip(sums.items(), g, strict=True)}
    assert distance(total("maml", "conv4", 1), sums) < EXACT


def entropy(params: Params, x: Tensor, y: Tensor) -> Tensor:
    logits = plain_conv4(params, x.reshape(-1, 1, SIDE, SIDE))
    return F.cross_entropy(logits, y.mT)


def test_the_cell_is_torchs() -> None:
    model, theta = whole_model("gru"), theta_of(METHODS["maml"], whole_model("gru"), 3)
    x = whole_tasks("gru", 1).support.x[0]
    cell = torch.nn.GRU(OPTIONS.embedding, len(theta["output.weight"][0]), batch_first=True)
    cell = cell.double()
    with torch.no_grad():
        for mine, name in zip(
            cell.parameters(), ("input", "state", "input_bias", "state_bias"), strict=True
        ):
            mine.copy_(theta[f"cell.{name}"])
        for row, logits in zip(x, model.head.logits(theta, x).mT, strict=True):
            letters = row[row >= 0].long()
            _, last = cell(theta["embedding.weight"][letters][None])
            expected = theta["output.weight"] @ last[0, 0] + theta["output.bias"]
            assert torch.allclose(logits, expected, atol=1e-12)
    assert (x < 0).any()
    assert x.shape[1] == LETTERS


def encoder_layer(theta: Params, width: int, parts: int) -> torch.nn.TransformerEncoderLayer:
    layer = torch.nn.TransformerEncoderLayer(
        width, parts, len(theta["widen.bias"]), 0.0, batch_first=True
    )
    names = {
        "self_attn.in_proj_weight": "attention.weight",
        "self_attn.in_proj_bias": "attention.bias",
        "self_attn.out_proj.weight": "join.weight",
        "self_attn.out_proj.bias": "join.bias",
        "linear1.weight": "widen.weight",
        "linear1.bias": "widen.bias",
        "linear2.weight": "narrow.weight",
        "linear2.bias": "narrow.bias",
        "norm1.weight": "norm.weight",
        "norm1.bias": "norm.bias",
        "norm2.weight": "last.weight",
        "norm2.bias": "last.bias",
    }
    layer.load_state_dict({theirs: theta[ours] for theirs, ours in names.items()})
    return layer.to(theta["join.bias"].dtype)


def test_the_personalization_head_is_torchs_encoder_layer() -> None:
    model = whole_model("ph-transformer")
    theta = theta_of(METHODS["maml"], model, 3)
    x = whole_tasks("ph-transformer", 1).support.x.flatten(0, 1)
    tokens = x.view(len(x), TOKENS, -1)
    gone = (tokens == 0).all(-1)
    inside = tokens @ theta["project.weight"].mT + theta["project.bias"]
    layer = encoder_layer(theta, OPTIONS.width, OPTIONS.attention_heads)
    h = layer(inside, src_key_padding_mask=gone)
    mean = torch.where(gone[..., None], 0.0, h).sum(1) / (~gone).sum(1, keepdim=True)
    expected = mean @ theta["output.weight"].mT + theta["output.bias"]
    assert gone.any()
    assert torch.allclose(model.head.logits(theta, x).mT, expected, atol=1e-10)


def test_the_published_personalization_head() -> None:
    """Its size, and that 37 % of it, the queries and keys over a single vector, cannot learn."""
    options = HeadConfig(width=0, attention_heads=8, feed_forward=512)
    head = HEADS["ph-transformer"](768, 10, given=Given(options))
    theta = head.init(torch.Generator().manual_seed(1))
    assert sum(value.numel() for value in theta.values()) == 3_160_842
    random = torch.Generator().manual_seed(2)
    x, y = torch.randn(4, 768, generator=random), torch.tensor([1, 0, 3, 9])
    free = {name: value.requires_grad_() for name, value in theta.items()}
    F.cross_entropy(head.logits(free, x).mT, y).backward()  # type: ignore[no-untyped-call]
    idle = 2 * 768 * 768 + 2 * 768
    assert idle == 1_181_184
    for name in ("attention.weight", "attention.bias"):
        slope = free[name].grad
        assert slope is not None
        assert not slope[: 2 * 768].any()
        assert slope[2 * 768 :].any()
    zero = sum(int((v.grad == 0).sum()) for v in free.values() if v.grad is not None)
    # ReLU units that no example turns on have none either, but they may at another place.
    assert idle <= zero < 1.1 * idle
    assert round(100 * idle / 3_160_842) == 37


def test_heads_draw_from_their_own_generator() -> None:
    before = torch.get_rng_state()
    for head in ("lora", "prompt", "conv4"):
        one, same, other = (
            whole_model(head).head.init(torch.Generator().manual_seed(s)) for s in (1, 1, 2)
        )
        assert all(torch.equal(one[n], same[n]) for n in one)
        assert any(not torch.equal(one[n], other[n]) for n in one)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("head", "features", "options", "reason"),
    [
        ("conv4", 64, {}, r"16 x 16 pixels or more.*an example has 64 numbers"),
        ("conv4", 785, {}, r"785 numbers, which with head.channels = 1 is no such image"),
        ("conv4", 784, {"channels": 3}, r"head.channels = 3 is no such image"),
        ("conv4", 784, {"filters": 6}, r"head.filters = 6: .* multiple of 4"),
        ("ph-transformer", 12, {"attention_heads": 5}, r"attention-heads = 5 does not divide"),
        ("lora", 12, {}, r"'lora' adapts a text encoder, and there is none here"),
        ("prompt", 12, {}, r"'prompt' adapts a text encoder, and there is none here"),
    ],
)
def test_heads_that_do_not_fit(head: str, features: int, options: dict, reason: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(HeadError, match=reason):
        HEADS[head](features, 3, given=Given(HeadConfig(**options)))


def test_without_peft(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    options = HeadConfig(rank=3)  # another one than what is kept
    with pytest.raises(HeadError, match=r"needs PEFT, which is not installed: `pip install"):
        HEADS["lora"](6, 3, given=Given(options, folder=folder()))
