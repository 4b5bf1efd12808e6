"""One expert. Built in notebook 03."""

import math

from torch import Tensor, nn


class Adapter(nn.Module):
    """A bottleneck beside the frozen MLP of a block: x (..., D) -> scale * up(dropout(relu(down(x)))), (..., D).

    The up-projection starts at zero, so a new one changes nothing. (An expert E_i of the paper; AdaptFormer's form.)
    """

    def __init__(self, width: int, bottleneck: int = 64, scale: float = 0.1, dropout: float = 0.1):
        super().__init__()
        self.down_proj = nn.Linear(width, bottleneck)
        self.up_proj = nn.Linear(bottleneck, width)
        self.dropout = nn.Dropout(dropout)
        self.scale = scale
        nn.init.kaiming_uniform_(self.down_proj.weight, a=math.sqrt(5))
        nn.init.zeros_(self.down_proj.bias)
        nn.init.zeros_(self.up_proj.weight)
        nn.init.zeros_(self.up_proj.bias)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.dropout(self.down_proj(x).relu())  # (..., bottleneck)
        return self.scale * self.up_proj(hidden)  # (..., D)
