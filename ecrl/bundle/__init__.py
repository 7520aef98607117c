"""`ecrl bundle`: a campaign and its report as an RO-Crate in a BagIt bag, from which the report can be made again."""
