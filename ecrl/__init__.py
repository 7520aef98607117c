"""ecrl: elastic checkpoint & recovery lab."""

__version__ = "0.1.0"
