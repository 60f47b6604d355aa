"""The validation loss: held-out clips at fixed sigmas and noise, so that two adapters see the same."""

from __future__ import annotations

import torch

from cosmos_exp.distributed import Processes
from cosmos_exp.training.model import AdaptedModel
from cosmos_exp.training.samples import SampleSource


@torch.no_grad()
def validation_losses(
    model: AdaptedModel, held_out: SampleSource, sigmas: list[float], processes: Processes
) -> dict[str, float]:
    """The mean loss over clips and sigmas, and the mean at each sigma. The processes divide the work."""
    cells = [(c, s) for c in range(len(held_out.clips)) for s in range(len(sigmas))]
    losses = torch.zeros(len(cells), device=processes.device)
    was_training = model.transformer.training
    model.transformer.eval()
    for index in processes.shard(range(len(cells))):
        clip, level = cells[index]
        losses[index] = model.losses(held_out.fixed(clip, sigmas[level], index, processes.device))[0]
    model.transformer.train(was_training)
    table = processes.all_reduce_(losses).view(-1, len(sigmas))
    by_sigma = {f"validation_loss_sigma_{s:g}": table[:, i].mean().item() for i, s in enumerate(sigmas)}
    return {"validation_loss": table.mean().item(), **by_sigma}
