"""torchvision's residual networks with the stem that CIFAR-sized images need."""

from typing import TYPE_CHECKING, ClassVar

from ecrl.workloads.images.model import ImageModel

if TYPE_CHECKING:
    import torch


class CifarResnet(ImageModel):
    """A residual network whose first convolution is 3x3 with stride 1, without the max-pool.

    The original stem would shrink 32x32 images to 8x8 at once. torchvision_name: the name of the builder in
    `torchvision.models`.
    """

    torchvision_name: ClassVar[str]

    def build(self, num_classes: int) -> "torch.nn.Module":
        """See `ImageModel.build`. The state dict has torchvision's key names; only the shape of conv1 differs."""
        import torchvision
        from torch import nn

        net: nn.Module = getattr(torchvision.models, self.torchvision_name)(weights=None, num_classes=num_classes)
        stem = nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=1, bias=False)
        nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")  # as torchvision's ResNet does
        net.conv1 = stem
        net.maxpool = nn.Identity()
        return net
