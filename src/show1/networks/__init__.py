"""Networks of the cascade."""

from show1.networks.unet_3d_condition import TextCache, UNet3DConditionModel, UNet3DConditionOutput

__all__ = ["TextCache", "UNet3DConditionModel", "UNet3DConditionOutput"]
