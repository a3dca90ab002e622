"""Cell type discrimination: is this a tumour cell or a normal one? Cells of unknown malignancy do not count."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from cell_lm.data.obs.malignancy import TUMOUR, UNKNOWN


def discrimination_loss(logits: Tensor, malignancy: Tensor) -> tuple[Tensor, Tensor]:
    """Return the summed binary cross-entropy (nats) over the cells of known malignancy, and how many were named right.

    Parameters
    ----------
    logits
        [C]: logit of being a tumour cell.
    malignancy
        int64 [C]: ``NORMAL``, ``TUMOUR`` or ``UNKNOWN``.
    """
    known = malignancy != UNKNOWN
    wide = torch.promote_types(logits.dtype, torch.float32)
    logits, tumour = logits[known].to(wide), malignancy[known] == TUMOUR
    loss = F.binary_cross_entropy_with_logits(logits, tumour.to(wide), reduction="sum")
    return loss, ((logits.detach() > 0) == tumour).sum()
