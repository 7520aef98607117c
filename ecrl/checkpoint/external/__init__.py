"""What engines of other formats share."""
