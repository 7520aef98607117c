"""The shared parts of engines that write other formats than ecrl's."""
