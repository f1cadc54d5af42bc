"""Show-1: text-to-video by pixel-space and latent-space diffusion in one cascade (arXiv:2309.15818)."""
