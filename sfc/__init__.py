"""Shared Feature Calibration: semantic segmentation from image-level labels (AAAI 2024)."""
