"""Facts about Fashion-MNIST: its idx files, their published content, and its images in CIFAR's shape."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy
    import torch

NUM_CLASSES = 10
# Of the 60,000 training images after padding to 32x32, pixels in [0, 1]. Every subset uses the same values, so a subset
# and the full set are normalised alike.
MEAN = (0.21900, 0.21900, 0.21900)
STD = (0.33181, 0.33181, 0.33181)

TRAIN_IMAGES = "train-images-idx3-ubyte"
TRAIN_LABELS = "train-labels-idx1-ubyte"
TEST_IMAGES = "t10k-images-idx3-ubyte"
TEST_LABELS = "t10k-labels-idx1-ubyte"

# Of the uncompressed content, because the .gz files of the publisher and of Debian differ in their gzip headers.
CONTENT_MD5 = {
    TRAIN_IMAGES: "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    TRAIN_LABELS: "9018921c3c673c538a1fc5bad174d6f9",
    TEST_IMAGES: "8181f5470baa50b63fa0f6fddb340f0a",
    TEST_LABELS: "15d484375f8d13e6eb1aabb0c3f46965",
}


def to_rgb_32(grey: "numpy.ndarray[Any, Any]") -> "torch.Tensor":
    """Grey uint8 [N, 28, 28] -> uint8 [N, 3, 32, 32]: two black pixels on each side, the channel three times.

    The shape is CIFAR's, so models and tensor sizes are those of a CIFAR run.
    """
    import torch

    # Filled in place: the result is the only large allocation, and `grey` may be a read-only view of a file.
    rgb = torch.zeros((len(grey), 3, 32, 32), dtype=torch.uint8)
    rgb.numpy()[:, :, 2:30, 2:30] = grey[:, None]
    return rgb
