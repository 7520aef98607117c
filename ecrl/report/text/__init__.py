"""The parts of a document and the wording of numbers."""
