"""Image data: readers, augmentation, batches."""
