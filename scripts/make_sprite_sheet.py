"""Draws the sprite sheet of the sprite world from the Noto Emoji vector images.

Needs two things that the package itself does not: `pip install resvg-py pillow numpy`, and the vector images from
npm, `npm install @iconify-json/noto@1.2.9` (Noto Emoji by Google, Apache-2.0). Then::

    python scripts/make_sprite_sheet.py node_modules/@iconify-json/noto

Each subject is cropped to what is drawn, centred in a square cell, its longer side as long as the cell less a margin.
"""

import argparse
import io
import json
from pathlib import Path

import numpy as np
import resvg_py
from PIL import Image

from show1.cli.failures import run_script

CELL = 256
MARGIN = 2
COLUMNS = 8
ASSETS = Path(__file__).parents[1] / "src" / "show1" / "sprites" / "assets"


def draw_svg(body: str, size: int) -> Image.Image:
    """Renders the body of a 128-unit SVG image to a square RGBA image of `size` pixels."""
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 128 128" width="{size}" height="{size}">{body}</svg>'
    png = resvg_py.svg_to_bytes(svg_string=svg, width=size, height=size)
    return Image.open(io.BytesIO(bytes(png))).convert("RGBA")


def draw_cell(body: str) -> Image.Image:
    """Renders one subject, cropped to its drawn part, centred in a cell."""
    large = draw_svg(body, 8 * 128)
    left, top, right, bottom = large.getchannel("A").point(lambda a: 255 * (a > 16)).getbbox()
    side = max(right - left, bottom - top) * CELL / (CELL - 2 * MARGIN)
    x, y = (left + right - side) / 2, (top + bottom - side) / 2
    premultiplied = np.asarray(large, dtype=np.float32)
    premultiplied = np.concatenate([premultiplied[..., :3] * premultiplied[..., 3:] / 255, premultiplied[..., 3:]], -1)
    planes = [
        Image.fromarray(plane).transform(
            (4 * CELL, 4 * CELL), Image.Transform.EXTENT, (x, y, x + side, y + side), Image.Resampling.BILINEAR
        )
        for plane in np.moveaxis(premultiplied, -1, 0)
    ]
    cell = np.stack([np.asarray(plane) for plane in planes], -1).reshape(CELL, 4, CELL, 4, 4).mean((1, 3))
    alpha = np.where(cell[..., 3:] < 1, 0, cell[..., 3:])
    colour = np.where(alpha > 0, cell[..., :3] * 255 / np.maximum(alpha, 1), 0)
    return Image.fromarray(np.concatenate([colour, alpha], -1).round().clip(0, 255).astype(np.uint8), "RGBA")


def main() -> None:
    """Writes `sprites.png` into the package's assets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("icons", type=Path, help="folder of the npm package @iconify-json/noto")
    folder: Path = parser.parse_args().icons
    icons = json.loads((folder / "icons.json").read_text())["icons"]
    names = json.loads((folder / "chars.json").read_text())
    subjects = json.loads((ASSETS / "sprite_world.json").read_text())["subjects"]
    sheet = Image.new("RGBA", (COLUMNS * CELL, -(-len(subjects) // COLUMNS) * CELL))
    for number, subject in enumerate(subjects):
        row, column = divmod(number, COLUMNS)
        cell = draw_cell(icons[names[f"{ord(subject['emoji'][0]):x}"]]["body"])
        sheet.paste(cell, (column * CELL, row * CELL))
    sheet.save(ASSETS / "sprites.png", optimize=True)


if __name__ == "__main__":
    run_script(main)
