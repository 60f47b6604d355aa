"""The slots of a global batch, which process computes which, and the order in which their gradients are added. No torch.

A slot is one forward pass of at most `hardware.samples_per_forward` samples. Gradients are added along a balanced binary
tree over the slots, whatever the number of processes: floating-point addition is commutative, but not associative.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")
Node = tuple[int, int]  # the slots [start, stop) of a subtree


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
        start, stop = (cut, stop) if rank & size else (start, cut)
    return start, stop


def subtrees(part: Node, slots: int) -> list[Node]:
    """The largest subtrees of the tree over `slots` slots that make up a part, from left to right."""

    def within(start: int, stop: int) -> Iterator[Node]:
        if stop <= part[0] or part[1] <= start:
            return
        if part[0] <= start and stop <= part[1]:
            yield start, stop
            return
        cut = middle(start, stop)
        yield from within(start, cut)
        yield from within(cut, stop)

    return list(within(0, slots)) if part[0] < part[1] else []


def num_buffers(slots: int) -> int:
    """The most gradients that the sum holds at a time beside the parameters' own, on any number of processes.

    Sums of left subtrees that wait for the right one, and with several processes a flat copy and the partner's.
    """
    return max(0, (slots - 1).bit_length() - 1) + 2
