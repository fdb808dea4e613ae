"""Melanoma classifiers on dermoscopic images, fast, and fair across skin tones."""

__version__ = "0.1.0"
