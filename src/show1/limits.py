"""Limits of what is read and of what may be asked for, so that no stranger's file fills memory or takes forever.

docs/security.md explains them. They are far above ordinary use; whatever exceeds them is refused before memory is taken
for it.
"""

MAX_JSON_BYTES = 16 << 20
"""Size of a JSON document: a record in a video, a manifest, an index, a config."""
MAX_JSON_DEPTH = 64
"""How deep lists and mappings may be nested in one."""
MAX_PROMPT = 100_000
"""Characters of a prompt."""
MAX_SAMPLES = 4096
"""Videos of one request: prompts times drafts."""
MAX_PROMPTS = 100_000
"""Prompts of a file for `show1 batch`."""
MAX_STEPS = 1000
"""Denoising steps of a stage."""
MAX_FRAMES = 1024
"""Keyframes, and frames of a window."""
MAX_FACTOR = 64
"""Frames per keyframe of the interpolation."""
MAX_SIDE = 4096
"""Height and width of a generated video in pixels."""
MAX_VIDEO_PIXELS = 1 << 31
"""Frames x height x width of a generated video."""
MAX_PIXEL_VALUE = 8.0
"""Absolute value of a pixel in a float video, which is from -1 to 1 but for what the networks overshoot."""
MAX_TOKENS = 512
"""Tokens to which a prompt is cut."""
MAX_IMAGE_PIXELS = 1 << 26
"""Height x width of an image, or of a frame of a video that is read: twice 8K."""
MAX_DECODED_BYTES = 8 << 30
"""Memory for the frames of a video that is read whole: a minute of 1920x1080 at 22 frames per second."""
MAX_DECODED_FRAMES = 1 << 20
"""Frames of such a video, or images of a folder: twelve hours at 24 frames per second."""
MAX_CONFIG_LAYERS = 128
"""Layers of a network, counted from its config before it is made."""
MAX_CONFIG_NUMBER = 1 << 24
"""Any other number in a network's config: channels, words, tokens."""
MAX_CONFIG_LEVELS = 64
"""Entries of a list in a network's config."""
MAX_SHARDS = 1000
"""Files that the weights of a network are split into."""
MAX_TOKENIZER_BYTES = 64 << 20
"""Size of a file of a tokenizer."""
MAX_NOISE_TIMESTEPS = 100_000
"""Timesteps of a noise schedule."""
MAX_ADAPTER_BYTES = 8 << 30
"""Size of an adapter's file."""
