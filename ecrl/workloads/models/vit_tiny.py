"""A vision transformer for 32x32 images."""

from typing import TYPE_CHECKING

from ecrl.workloads.images.model import ImageModel

if TYPE_CHECKING:
    import torch


class VitTiny(ImageModel):
    """Without dropout: a step depends on the weights and the batch alone. No layer has buffers."""

    name = "vit-tiny"
    description = "torchvision's vision transformer, 64 patches of 4x4, 6 layers of width 192; 2.7 million parameters"

    def build(self, num_classes: int) -> "torch.nn.Module":
        """See `ImageModel.build`."""
        from torchvision.models import VisionTransformer

        # The width and the heads of DeiT-Ti (Touvron et al. 2021), half as deep: the images are small.
        net: torch.nn.Module = VisionTransformer(
            image_size=32, patch_size=4, num_layers=6, num_heads=3, hidden_dim=192, mlp_dim=768, num_classes=num_classes
        )
        return net


PLUGIN = VitTiny(task="images")
