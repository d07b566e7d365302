"""Conv4's block for one user alone, beside the textbook's order and its derivatives by the tape."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fedmeta.heads.settled import maxima, plain, settled

Block = Callable[[Tensor, Tensor, Tensor], Tensor]
SHAPES = [(2, 3, 6, 6), (3, 1, 7, 7), (1, 2, 2, 2)]
FILTERS = 8


def drawn(shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """An image, a kernel, a shift, and what the result and its gradients are multiplied by."""
    random = torch.Generator().manual_seed(1)
    n, channels, height, width = shape
    sizes = {
        "x": shape, "weight": (FILTERS, channels, 3, 3), "bias": (FILTERS,),
        "g": (n, FILTERS, height // 2, width // 2), "by_x": shape,
        "by_weight": (FILTERS, channels, 3, 3), "by_bias": (FILTERS,), "b": shape,
    }  # fmt: skip
    return {name: torch.randn(size, generator=random).to(dtype) for name, size in sizes.items()}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_are_the_textbooks_to_the_bit(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    at = drawn(shape, dtype)
    three = at["x"], at["weight"], at["bias"]
    assert torch.equal(settled(*three), plain(*three))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("image", [True, False])
def test_derivatives_of_three_orders(shape: tuple[int, ...], image: bool) -> None:
    """What is multiplied by depends on the parameters as well, as in a network's next block.

    The first block's image is data: nobody asks for its derivative.
    """
    at = drawn(shape)
    names = ["x", "weight", "bias"][0 if image else 1 :]
    found = []
    for block in (settled, plain):
        three = {name: at[name].clone() for name in ("x", "weight", "bias")}
        free = [three[name].requires_grad_() for name in names]

        def slopes(block: Block, three: dict[str, Tensor], free: list[Tensor]) -> Tensor:
            """The first derivatives, each by a direction, of something that bends."""
            y = block(three["x"], three["weight"], three["bias"])
            value = (y * (at["g"] * torch.sin(y) + three["bias"][:, None, None] ** 2)).sum()
            first = torch.autograd.grad(value, free, create_graph=True)
            return torch.stack(
                [(one * at[f"by_{name}"]).sum() for name, one in zip(names, first, strict=True)]
            ).sum()

        first = slopes(block, three, free)
        last = torch.autograd.grad(first, free)  # as in training: nothing is recorded any more
        second = torch.autograd.grad(slopes(block, three, free), free, create_graph=True)
        third = torch.autograd.grad((second[0].square()).sum(), free)
        found.append([first, *last, *second, *third])
    for mine, expected in zip(*found, strict=True):
        assert expected.abs().max().item() > 1e-3
        assert torch.allclose(mine, expected, rtol=1e-9, atol=1e-9 * expected.abs().max().item())


@pytest.mark.parametrize("shape", [(2, 4, 6, 6), (3, 4, 7, 5), (1, 4, 2, 2)])
def test_maxima_are_torchs_and_of_equals_the_first(shape: tuple[int, ...]) -> None:
    y = torch.randint(0, 3, shape, generator=torch.Generator().manual_seed(1)).float()
    top, at = maxima(y)
    expected, where = torch.nn.functional.max_pool2d(y, 2, return_indices=True)
    assert torch.equal(top, expected)
    assert torch.equal(at, where)
