"""A small convolutional network: fast on one CPU core, with every kind of state a checkpoint must carry."""

import torch
from torch import nn

from ecrl.workloads.images.model import ImageModel

_DROPOUT = 0.2


class Cnn(ImageModel):
    """Batch norm makes buffers part of the state, dropout makes the random generator part of it."""

    name = "cnn"
    description = "3 convolutions with batch norm, 2 linear layers with dropout; 0.2 million parameters"

    def build(self, num_classes: int) -> nn.Module:
        """See `ImageModel.build`."""
        return CnnModule(num_classes)


class CnnModule(nn.Module):
    """Halves the image at each convolution, 32 -> 4, then classifies the 96 x 4 x 4 features."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            _make_halving_block(3, 24), _make_halving_block(24, 48), _make_halving_block(48, 96)
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Dropout(_DROPOUT),
            nn.Linear(96 * 4 * 4, 96),
            nn.ReLU(inplace=True),
            nn.Dropout(_DROPOUT),
            nn.Linear(96, num_classes),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """float32 [B, 3, 32, 32] -> logits [B, num_classes]."""
        logits: torch.Tensor = self.classifier(self.features(images))
        return logits


def _make_halving_block(channels_in: int, channels_out: int) -> nn.Sequential:
    # No bias: batch norm has its own.
    convolution = nn.Conv2d(channels_in, channels_out, 3, stride=2, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels_out), nn.ReLU(inplace=True))


PLUGIN = Cnn(task="images")
