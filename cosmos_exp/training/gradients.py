"""The gradient of the global batch: the same sum, to the bit, on any number of processes.

The gradients of the slots are added along the tree of `training.slots`. A process sums its own subtree. Then the
processes exchange their sums pairwise, one level of the tree at a time (recursive doubling). Process counts other than
1, 2, 4, … do not divide the tree at its borders: there every process receives the largest subtrees of every other
process and adds them itself, which transfers more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn

from cosmos_exp.distributed import Processes
from cosmos_exp.training.slots import Node, is_power_of_two, middle, share, subtrees

Backward = Callable[[int], None]  # adds the gradient of one slot to the parameters' gradients


class TreeSum:
    """Sums the gradients of all slots into the parameters' `grad`, in all processes.

    Args:
        parameters: the adapter's, by name; their order is that of the exchanged buffers.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], processes: Processes):
        self.parameters, self.processes = list(parameters.values()), processes

    def run(self, slots: int, backward: Backward) -> None:
        """Call `backward` for this process's slots in ascending order, and leave the sum over all slots in `grad`."""
        processes = self.processes
        if processes.size == 1:
            self._sum((0, slots), backward)
            self._fill()
            return
        sums = []
        for node in subtrees(share(processes.rank, processes.size, slots), slots):
            self._sum(node, backward)
            self._fill()
            sums.append(torch.cat([g.reshape(-1) for g in self._take()]))
        if is_power_of_two(processes.size):
            total = self._double(sums[0] if sums else None, slots)
        else:
            total = self._gather((0, slots), slots, iter(sums).__next__)
        self._fill()
        pieces = total.split([p.numel() for p in self.parameters])
        for parameter, piece in zip(self.parameters, pieces, strict=True):
            assert parameter.grad is not None
            parameter.grad.copy_(piece.view_as(parameter))

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
        self._fill()
        left = self._take()
        self._sum((cut, stop), backward)
        self._fill()
        torch._foreach_add_([p.grad for p in self.parameters if p.grad is not None], left)

    def _fill(self) -> None:
        """Give parameters that no slot has used a gradient of zero."""
        for parameter in self.parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)

    def _take(self) -> list[torch.Tensor]:
        """The gradients, which are empty afterwards."""
        taken = [p.grad for p in self.parameters if p.grad is not None]
        for parameter in self.parameters:
            parameter.grad = None
        return taken

    def _empty(self) -> torch.Tensor:
        first = self.parameters[0]
        return torch.empty(sum(p.numel() for p in self.parameters), dtype=first.dtype, device=first.device)

    def _double(self, mine: torch.Tensor | None, slots: int) -> torch.Tensor:
        """Recursive doubling, from the lowest level of the tree up: both partners then hold the sum of both groups.

        Args:
            mine: the sum of this process's subtree; None: it has none.
        """
        rank, size = self.processes.rank, self.processes.size
        distance = 1
        while distance < size:
            start, stop = share(rank // distance ^ 1, size // distance, slots)
            theirs, partner = stop > start, rank ^ distance
            if mine is not None and theirs:
                mine.add_(self.processes.swap(mine, partner, self._empty()))
            elif mine is not None:
                self.processes.send(mine, partner)
            elif theirs:
                mine = self.processes.receive(self._empty(), partner)
            distance *= 2
        assert mine is not None  # a batch has at least one slot
        return mine

    def _gather(self, node: Node, slots: int, next_own: Callable[[], torch.Tensor]) -> torch.Tensor:
        """The sum of a subtree: broadcast if one process has it, else added from its children."""
        start, stop = node
        for rank in range(self.processes.size):
            first, last = share(rank, self.processes.size, slots)
            if first <= start and stop <= last:
                own = next_own() if rank == self.processes.rank else self._empty()
                return self.processes.broadcast_(own, rank)
        cut = middle(start, stop)
        left = self._gather((start, cut), slots, next_own)
        return left.add_(self._gather((cut, stop), slots, next_own))
