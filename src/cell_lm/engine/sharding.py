"""Parameters, gradients and moments sharded over the ranks (FSDP2), and gathered for a checkpoint.

A checkpoint holds whole tensors: it does not depend on the number of ranks or on sharding.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from cell_lm.errors import ModelError
from cell_lm.nn.encoder import Layer
from cell_lm.reading import reason

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


def shard(model: nn.Module, device: torch.device, ranks: int) -> None:
    """Shard the parameters of a model over the ranks; each layer is a unit, gathered when it is computed.

    The gradient is summed over the ranks, not averaged: the losses are divided by the counts of the whole batch.

    Parameters
    ----------
    model
        The same on all ranks. Its optimiser must be built afterwards.
    device
        Where this rank computes.
    ranks
        Number of ranks; with one, the model is not changed.
    """
    if ranks == 1:
        return
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, fully_shard

    mesh = init_device_mesh(device.type, (ranks,))
    for layer in [module for module in model.modules() if isinstance(module, Layer)]:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    for unit in model.modules():
        if isinstance(unit, FSDPModule):
            unit.set_gradient_divide_factor(1.0)
            unit.set_force_sum_reduction_for_comms(True)  # gloo has no other


def whole(tensor: Tensor) -> Tensor:
    """Return a sharded tensor gathered (all ranks must call it), and any other tensor unchanged."""
    sharded = _as_sharded(tensor)
    return tensor if sharded is None else sharded.full_tensor()


def _as_sharded(tensor: Tensor) -> DTensor | None:
    """Return the tensor if it is sharded; the import takes seconds, and where nobody needed it nothing is sharded."""
    if "torch.distributed.tensor" not in sys.modules:
        return None
    from torch.distributed.tensor import DTensor

    return tensor if isinstance(tensor, DTensor) else None


def gather(tensors: Mapping[str, Tensor], *, keep: bool) -> dict[str, Tensor]:
    """Gather tensors one by one; return them on the CPU on ranks that set ``keep``, nothing on the others."""
    gathered: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        complete = whole(tensor.detach())
        if keep:
            gathered[name] = complete.cpu()
    return gathered


def spread(tensor: Tensor, like: Tensor) -> Tensor:
    """Return this rank's shard of a whole tensor, sharded like ``like``, without communication."""
    sharded = _as_sharded(like)
    if sharded is None:
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor.to(like.device), sharded.device_mesh, sharded.placements, src_data_rank=None)


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Load whole tensors into a model, sharded or not.

    Raises
    ------
    ModelError
        A tensor is missing, of another shape, or not the model's.
    """
    own = model.state_dict()
    try:
        model.load_state_dict({name: spread(tensor, own.get(name, tensor)) for name, tensor in tensors.items()})
    except RuntimeError as error:
        fix = "Restore the checkpoint from a copy, or train again into another folder"
        raise ModelError(f"the checkpoint does not fit the model of the run ({reason(error)})", fix=fix) from None
