"""The pages that commands write."""
