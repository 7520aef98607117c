"""torchvision's residual networks with the stem that CIFAR-sized images need."""

from typing import TYPE_CHECKING, ClassVar

from ecrl.workloads.images.model import ImageModel

if TYPE_CHECKING:
    import torch


class CifarResnet(ImageModel):
    """A 3x3 stride-1 first convolution and no max-pool, so that 32x32 images are not shrunk to 8x8 at once.

    Members give `torchvision_name`, the builder's name in `torchvision.models`.
    """

    torchvision_name: ClassVar[str]

    def build(self, num_classes: int) -> "torch.nn.Module":
        """See `ImageModel.build`; the state dict has torchvision's key names, conv1's shape differs."""
        import torchvision
        from torch import nn

        net: nn.Module = getattr(torchvision.models, self.torchvision_name)(weights=None, num_classes=num_classes)
        stem = nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=1, bias=False)
        nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")  # as torchvision's ResNet does
        net.conv1 = stem
        net.maxpool = nn.Identity()
        return net
