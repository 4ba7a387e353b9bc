"""The reference networks in PyTorch, written from the studies' tables."""

from collections import OrderedDict

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


class TorchSkip(nn.Module):
    """Append what a module makes of the features to them."""

    def __init__(self, submodule: nn.Module):
        super().__init__()
        self.submodule = submodule

    def forward(self, x: Tensor) -> Tensor:
        """Return the channels of `x`, then those of the module."""
        return torch.cat([x, self.submodule(x)], 1)


class TorchUNet(nn.Module):
    """MONAI's U-Net with `num_res_units=0` and strides of 2, its weights under MONAI's names."""

    def __init__(
        self,
        spatial_dims: int,
        channels: tuple[int, ...],
        dropout: float,
        *,
        in_channels: int = 1,
        out_channels: int = 2,
        kernel_size: int = 3,
        up_kernel_size: int = 3,
    ):
        super().__init__()
        self.rank, self.dropout = spatial_dims, dropout
        self.sizes = kernel_size, up_kernel_size
        block = self.down(channels[-2], channels[-1], stride=1)
        above = (in_channels, *channels[:-2])
        for level in reversed(range(len(above))):
            inner = channels[level]
            inputs = inner + (channels[-1] if level == len(above) - 1 else inner)
            outputs = above[level] if level else out_channels
            up = self.up(inputs, outputs, normed=level > 0)
            block = nn.Sequential(self.down(above[level], inner), TorchSkip(block), up)
        self.model = block

    def down(self, inputs: int, outputs: int, *, stride: int = 2) -> nn.Module:
        """Return a convolution, normed and dropped."""
        size, conv = self.sizes[0], (nn.Conv2d, nn.Conv3d)[self.rank - 2]
        return self._layer(conv(inputs, outputs, size, stride, size // 2), outputs)

    def up(self, inputs: int, outputs: int, *, normed: bool) -> nn.Module:
        """Return a transposed convolution of stride 2."""
        size, conv = self.sizes[1], (nn.ConvTranspose2d, nn.ConvTranspose3d)[self.rank - 2]
        made = conv(inputs, outputs, size, 2, size // 2, output_padding=1)
        return self._layer(made, outputs) if normed else nn.Sequential(OrderedDict(conv=made))

    def _layer(self, conv: nn.Module, outputs: int) -> nn.Module:
        norm = (nn.InstanceNorm2d, nn.InstanceNorm3d)[self.rank - 2](outputs)
        after = OrderedDict(N=norm, D=nn.Dropout(self.dropout), A=nn.PReLU())
        return nn.Sequential(OrderedDict(conv=conv, adn=nn.Sequential(after)))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (batch, class, *spatial)."""
        return self.model(images)


def torch_network(name: str, *, classes: int = 2) -> nn.Module:
    """Return the counterpart of a network of segjax's zoo."""
    if name == "mpunet++":
        return TorchMPUNetPlusPlus(classes=classes)
    if name == "unet3d":
        return TorchUNet(3, (16, 32, 64, 128, 200), 0.0, out_channels=classes)
    family, _, size = name.rpartition("-k")
    sizes = {"kernel_size": int(size), "up_kernel_size": int(size), "out_channels": classes}
    channels = (4, 8) if family == "tiny" else (16, 32, 64, 128, 256, 512)
    return TorchUNet(2, channels, 0.3, **sizes)


def network_and_weights(name: str) -> tuple[nn.Module, dict[str, Tensor]]:
    """Return a network with random running statistics, and its weights; the same every time."""
    torch.manual_seed(0)
    network = torch_network(name)
    if isinstance(network, TorchMPUNetPlusPlus):
        for module in network.modules():
            if isinstance(module, nn.BatchNorm3d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
        return network.eval(), network.released_state_dict()
    return network.eval(), network.state_dict()


def tversky_loss(logits: Tensor, labels: Tensor, *, alpha: float = 0.5) -> Tensor:
    """Return 1 - TP / (TP + alpha·FN + (1 - alpha)·FP), averaged over the foreground classes."""
    truth = F.one_hot(labels.long(), logits.shape[1]).movedim(-1, 1)[:, 1:]
    found = logits.float().softmax(1)[:, 1:]
    axes = (0, *range(2, logits.ndim))
    hits, all_found, all_true = ((found * truth).sum(axes), found.sum(axes), truth.sum(axes))
    wrong = alpha * (all_true - hits) + (1 - alpha) * (all_found - hits)
    return 1 - ((hits + 1e-5) / (hits + wrong + 1e-5)).mean()


def dice_and_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the Dice loss of the foreground plus cross-entropy."""
    return tversky_loss(logits, labels) + F.cross_entropy(logits.float(), labels.long())
