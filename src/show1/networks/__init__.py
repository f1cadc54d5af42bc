"""The pixel UNet: its config, its blocks and its layers."""

from show1.networks.config import UNetConfig
from show1.networks.unet_3d_condition import TextCache, UNet3DConditionModel, UNet3DConditionOutput

__all__ = ["TextCache", "UNet3DConditionModel", "UNet3DConditionOutput", "UNetConfig"]
