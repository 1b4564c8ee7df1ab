"""The networks: a U-Net on any pretrained encoder, its attention, hypercolumn, stem and weights."""

from semisalt.models.stem import STEMS as STEMS
from semisalt.models.stem import Stem as Stem
from semisalt.models.unet import SaltUNet as SaltUNet
from semisalt.models.unet import build_unet as build_unet
from semisalt.models.weights import imagenet_reachable as imagenet_reachable
