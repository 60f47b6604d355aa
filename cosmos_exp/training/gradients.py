"""The gradient of the global batch: the same sum, to the bit, on any number of processes.

A slot is one forward pass of at most `hardware.samples_per_forward` samples. The gradients of the slots are added along
a balanced binary tree, whatever the number of processes: floating-point addition is commutative, but not associative.
A process sums its own subtree. Then the processes exchange their sums pairwise, one level of the tree at a time
(recursive doubling). Process counts other than 1, 2, 4, … do not divide the tree at its borders: there every process
receives the largest subtrees of every other process and adds them itself, which transfers more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import torch
from torch import nn

from cosmos_exp.distributed import Processes

Item = TypeVar("Item")
Node = tuple[int, int]  # the slots [start, stop) of a subtree
Backward = Callable[[int], None]  # adds the gradient of one slot to the parameters' gradients


def cut_into_slots(batch: Sequence[Item], samples_per_forward: int) -> list[Sequence[Item]]:
    """The samples of each slot. The cut does not depend on the number of processes; the last slot may be smaller."""
    return [batch[first : first + samples_per_forward] for first in range(0, len(batch), samples_per_forward)]


def middle(start: int, stop: int) -> int:
    """Where the tree divides the slots [start, stop); of an odd number the first part has one more."""
    return start + (stop - start + 1) // 2


def is_power_of_two(number: int) -> bool:
    """Whether the number is 1, 2, 4, …"""
    return number & (number - 1) == 0


def share(rank: int, size: int, slots: int) -> Node:
    """The slots [start, stop) that a process computes; start = stop: none.

    With 1, 2, 4, … processes it is a subtree. Otherwise the parts are as equal and may contain several subtrees.
    """
    if not is_power_of_two(size):
        return slots * rank // size, slots * (rank + 1) // size
    start, stop = 0, slots
    while size > 1:
        size //= 2
        cut = middle(start, stop)
        if rank & size:
            start = cut
        else:
            stop = cut
    return start, stop


def subtrees(part: Node, node: Node) -> list[Node]:
    """The largest subtrees of `node` that make up `part`, from left to right."""
    start, stop = max(part[0], node[0]), min(part[1], node[1])
    if start >= stop:
        return []
    if (start, stop) == node:
        return [node]
    cut = middle(*node)
    return subtrees(part, (node[0], cut)) + subtrees(part, (cut, node[1]))


class TreeSum:
    """Sums the gradients of all slots into the parameters' `grad`, in all processes.

    Args:
        parameters: the adapter's, by name; their order is that of the exchanged buffers.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], processes: Processes):
        self.parameters, self.processes = list(parameters.values()), processes
        self.sizes = [p.numel() for p in self.parameters]

    def run(self, slots: int, backward: Backward) -> None:
        """Call `backward` for this process's slots in ascending order, and leave the sum over all slots in `grad`."""
        rank, size = self.processes.rank, self.processes.size
        if size == 1:
            self._sum((0, slots), backward)
            self._give(self._take())
            return
        sums = []
        for node in subtrees(share(rank, size, slots), (0, slots)):
            self._sum(node, backward)
            sums.append(torch.cat([g.reshape(-1) for g in self._take()]))
        if is_power_of_two(size):
            total = self._double(sums[0] if sums else None, slots)
        else:
            total = self._gather((0, slots), slots, iter(sums))
        for parameter, piece in zip(self.parameters, total.split(self.sizes), strict=True):
            parameter.grad = piece.view_as(parameter).clone()

    def _sum(self, node: Node, backward: Backward) -> None:
        """Leave the sum of a subtree in `grad`, which is empty before.

        A right child that is a single slot needs no buffer: autograd adds its gradient to the left child's.
        """
        start, stop = node
        if stop - start == 1:
            backward(start)
            return
        cut = middle(start, stop)
        self._sum((start, cut), backward)
        if stop - cut == 1:
            backward(cut)
            return
        left = self._take()
        self._sum((cut, stop), backward)
        right = self._take()
        torch._foreach_add_(right, left)
        self._give(right)

    def _take(self) -> list[torch.Tensor]:
        """The gradients, which are empty afterwards; zero for parameters that no slot has used."""
        taken = []
        for parameter in self.parameters:
            taken.append(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
            parameter.grad = None
        return taken

    def _give(self, gradients: list[torch.Tensor]) -> None:
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient

    def _empty(self) -> torch.Tensor:
        first = self.parameters[0]
        return torch.empty(sum(self.sizes), dtype=first.dtype, device=first.device)

    def _double(self, mine: torch.Tensor | None, slots: int) -> torch.Tensor:
        """Recursive doubling, from the lowest level of the tree up: both partners then hold the sum of both groups.

        Args:
            mine: the sum of this process's subtree; None: it has none.
        """
        rank, size = self.processes.rank, self.processes.size
        distance = 1
        while distance < size:
            start, stop = share(rank // distance ^ 1, size // distance, slots)
            partners = self._empty() if stop > start else None
            self.processes.exchange(rank ^ distance, mine, partners)
            if mine is None:
                mine = partners
            elif partners is not None:
                mine.add_(partners)
            distance *= 2
        assert mine is not None  # a batch has at least one slot
        return mine

    def _gather(self, node: Node, slots: int, sums: Iterator[torch.Tensor]) -> torch.Tensor:
        """The sum of a subtree: broadcast if one process has it, else added from its children.

        Args:
            sums: those of this process's subtrees, from left to right.
        """
        start, stop = node
        for rank in range(self.processes.size):
            first, last = share(rank, self.processes.size, slots)
            if first <= start and stop <= last:
                buffer = next(sums) if rank == self.processes.rank else self._empty()
                return self.processes.broadcast_(buffer, rank)
        cut = middle(start, stop)
        left = self._gather((start, cut), slots, sums)
        return left.add_(self._gather((cut, stop), slots, sums))
