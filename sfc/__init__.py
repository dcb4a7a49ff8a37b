"""Shared Feature Calibration: semantic segmentation from image-level labels (AAAI 2024)."""

__version__ = "0.1.0"
