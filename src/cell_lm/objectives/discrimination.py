"""Cell type discrimination: tumour or normal cell. Cells of unknown malignancy are ignored."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from cell_lm.data.obs.malignancy import TUMOUR, UNKNOWN


def discrimination_loss(logits: Tensor, malignancy: Tensor) -> tuple[Tensor, Tensor]:
    """Return the summed binary cross-entropy (nats) over the cells of known malignancy, and the number correct.

    Parameters
    ----------
    logits
        [C]: logit of being a tumour cell.
    malignancy
        int64 [C]: ``NORMAL``, ``TUMOUR`` or ``UNKNOWN``.
    """
    # by weights: selecting the known cells would make the CPU wait for the GPU
    known, tumour = malignancy != UNKNOWN, malignancy == TUMOUR
    wide = torch.promote_types(logits.dtype, torch.float32)
    losses = F.binary_cross_entropy_with_logits(logits.to(wide), tumour.to(wide), reduction="none")
    return losses.masked_fill(~known, 0.0).sum(), (((logits.detach() > 0) == tumour) & known).sum()
