"""ResNet-50 for 32x32 images."""

from ecrl.workloads.images.cifar_resnet import CifarResnet


class Resnet50(CifarResnet):
    """See `CifarResnet`."""

    name = "resnet50"
    description = "torchvision's ResNet-50 with the CIFAR stem; 23.5 million parameters"
    torchvision_name = "resnet50"


PLUGIN = Resnet50(task="images")
