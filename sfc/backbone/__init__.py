"""Trunks by name: what the CAM network, IRN's network and the segmentation model stand on, and their weights."""

from sfc.backbone.build import build_trunk
from sfc.backbone.resnet import Backbone, fold_batch_norm
from sfc.backbone.trunk import IMAGENET_MEAN, IMAGENET_STD, Trunk
from sfc.backbone.weights import load_backbone_weights

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "Backbone",
    "Trunk",
    "build_trunk",
    "fold_batch_norm",
    "load_backbone_weights",
]
