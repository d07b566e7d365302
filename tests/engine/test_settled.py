"""Conv4's block for one user alone, beside the textbook's order and its derivatives by the tape."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fedmeta.heads.settled import plain, settled

Block = Callable[[Tensor, Tensor], Tensor]
SHAPES = [(2, 8, 6, 6), (3, 4, 7, 7), (1, 4, 2, 2)]


def drawn(shape: tuple[int, ...], seed: int = 1) -> list[Tensor]:
    """Pixels, a shift, and what the result and its gradient are multiplied by."""
    random = torch.Generator().manual_seed(seed)
    pooled = (*shape[:2], shape[2] // 2, shape[3] // 2)
    sizes = (shape, shape[1:2], pooled, shape, shape[1:2], pooled, shape)
    return [torch.randn(size, generator=random, dtype=torch.float64) for size in sizes]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_are_the_textbooks_to_the_bit(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    c, bias = (value.to(dtype) for value in drawn(shape)[:2])
    assert torch.equal(settled(c, bias), plain(c, bias))


@pytest.mark.parametrize("shape", SHAPES)
def test_derivatives_of_three_orders(shape: tuple[int, ...]) -> None:
    """What is multiplied by depends on the pixels as well, as in a network's next block."""
    c, bias, g, u, v, a, b = drawn(shape)
    found = []
    for block in (settled, plain):
        free = [c.clone().requires_grad_(), bias.clone().requires_grad_()]

        def slopes(block: Block, free: list[Tensor]) -> Tensor:
            """The first derivatives, each by a direction, of something that bends."""
            weights = g * torch.sin(block(*free)) + a * free[1][:, None, None] ** 2
            value = (block(*free) * weights).sum()
            one, other = torch.autograd.grad(value, free, create_graph=True)
            return (one * u).sum() + (other * v).sum()

        first = slopes(block, free)
        last = torch.autograd.grad(first, free)  # as in training: nothing is recorded any more
        second = torch.autograd.grad(slopes(block, free), free, create_graph=True)
        third = torch.autograd.grad((second[0] * b * free[0]).sum(), free)
        found.append([first, *last, *second, *third])
    for mine, expected in zip(*found, strict=True):
        assert expected.abs().max() > 1e-3
        assert torch.allclose(mine, expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()))
