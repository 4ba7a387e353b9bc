"""The reference networks in PyTorch, written from the studies' tables."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

FEATURES = (6, 7, 8, 9)


class TorchNode(nn.Module):
    """Conv → BatchNorm → LeakyReLU → channel dropout → conv (→ BatchNorm → LeakyReLU)."""

    def __init__(self, in_channels: int, features: int, classes: int | None, dropout: float):
        super().__init__()
        self.conv0 = nn.Conv3d(in_channels, features, 3, padding=1)
        self.norm0 = nn.BatchNorm3d(features)
        self.dropout = nn.Dropout3d(dropout)
        self.conv1 = nn.Conv3d(features, classes or features, 3, padding=1)
        self.norm1 = None if classes else nn.BatchNorm3d(features)

    def forward(self, *xs: Tensor) -> Tensor:
        """Apply the node to the concatenated channels of `xs`."""
        x = self.dropout(F.leaky_relu(self.norm0(self.conv0(torch.cat(xs, 1))), 0.3))
        x = self.conv1(x)
        return x if self.norm1 is None else F.leaky_relu(self.norm1(x), 0.3)


class TorchMPUNetPlusPlus(nn.Module):
    """MPU-Net++: 37,935 parameters with 1 → 2 channels."""

    def __init__(self, in_channels: int = 1, classes: int = 2, dropout: float = 0.3):
        super().__init__()
        self.nodes = nn.ModuleDict()
        for level in range(4):
            for column in range(4 - level):
                inputs = column * FEATURES[level]
                inputs += FEATURES[level + 1] if column else ((in_channels, *FEATURES)[level])
                last = classes if (level, column) == (0, 3) else None
                self.nodes[f"X{level}{column}"] = TorchNode(inputs, FEATURES[level], last, dropout)
        self.heads = nn.ModuleList(nn.Conv3d(6, classes, 1) for _ in range(2))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (batch, class, depth, height, width)."""
        x: dict[tuple[int, int], Tensor] = {}
        for level in range(4):
            below = F.max_pool3d(x[level - 1, 0], 2) if level else images
            x[level, 0] = self.nodes[f"X{level}0"](below)
        for column in range(1, 4):
            for level in range(4 - column):
                up = F.interpolate(x[level + 1, column - 1], scale_factor=2, mode="nearest")
                row = [x[level, j] for j in range(column)]
                x[level, column] = self.nodes[f"X{level}{column}"](*row, up)
        return x[0, 3] + self.heads[0](x[0, 1]) + self.heads[1](x[0, 2])

    def released_state_dict(self) -> dict[str, Tensor]:
        """Return the weights under the names of the authors' release."""
        state = {}
        for name, node in self.nodes.items():
            level, column = name[1], int(name[2])
            for layer, prefix in (("conv", "conv"), ("norm", "bn")):
                for second in range(2):
                    module = getattr(node, f"{layer}{second}")
                    for leaf, value in (module.state_dict() if module else {}).items():
                        state[f"{prefix}{level}{2 * column + second:02d}.{leaf}"] = value
        for index, head in enumerate(self.heads):
            state |= {f"conv_seg{index}.{k}": v for k, v in head.state_dict().items()}
        return state


def torch_unet(spatial_dims: int, channels: tuple[int, ...], dropout: float, **sizes: int):
    """Return MONAI's U-Net with `num_res_units=0` and a stride of 2 on every level."""
    from monai.networks.nets import UNet

    return UNet(
        spatial_dims=spatial_dims,
        channels=channels,
        strides=(2,) * (len(channels) - 1),
        num_res_units=0,
        dropout=dropout,
        **({"in_channels": 1, "out_channels": 2} | sizes),
    )
