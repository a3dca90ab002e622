"""Cell type discrimination: is this a tumour cell or a normal one? Cells of unknown malignancy do not count."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from cell_lm.data.obs.malignancy import TUMOUR, UNKNOWN


def discrimination_loss(logits: Tensor, malignancy: Tensor) -> tuple[Tensor, Tensor]:
    """Return the summed binary cross-entropy (nats) over the cells of known malignancy, and how many are right.

    Parameters
    ----------
    logits
        [C]: logit of being a tumour cell.
    malignancy
        int64 [C]: ``NORMAL``, ``TUMOUR`` or ``UNKNOWN``.
    """
    # by weights: to select the known cells, the CPU would wait for a GPU to count them
    known, tumour = malignancy != UNKNOWN, malignancy == TUMOUR
    wide = torch.promote_types(logits.dtype, torch.float32)
    losses = F.binary_cross_entropy_with_logits(logits.to(wide), tumour.to(wide), reduction="none")
    return losses.masked_fill(~known, 0.0).sum(), (((logits.detach() > 0) == tumour) & known).sum()
