"""ResNet-18 for 32x32 images."""

from ecrl.workloads.images.cifar_resnet import CifarResnet


class Resnet18(CifarResnet):
    """See `CifarResnet`."""

    name = "resnet18"
    description = "torchvision's ResNet-18 with the CIFAR stem; 11.2 million parameters"
    torchvision_name = "resnet18"


PLUGIN = Resnet18(task="images")
