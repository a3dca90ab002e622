"""The version, in one place: read by hatchling at build time and written into every model folder."""

__version__ = "0.1.0"
