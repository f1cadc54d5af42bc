"""`scripts/try_expert.py`: what readers with a GPU run on real weights, here on a tiny Wan."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

from show1.video import Video
from tests.experts.tiny_experts import build_wan

ROOT = Path(__file__).parents[2]


def test_a_report_that_can_be_posted(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (5, 16, 24, 3), dtype=np.uint8)
    Video(frames=frames, fps=8.0).save(tmp_path / "clip.mkv")
    command = [sys.executable, str(ROOT / "scripts" / "try_expert.py"), str(build_wan(tmp_path / "wan"))]
    command += ["--video", str(tmp_path / "clip.mkv"), "--prompt", "a cat", "--levels", "0.4,0.8"]
    for option in ("height=16", "width=24", "num_inference_steps=2"):
        command += ["--set", f"translation.{option}"]
    command += ["-o", str(tmp_path / "tried")]
    made = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    report = (tmp_path / "tried" / "report.md").read_text()
    assert "| level | seconds | peak GB | PSNR | kept | sharpness | flicker |" in report
    assert [float(level) for level in re.findall(r"^\| (0\.\d) \|", report, re.MULTILINE)] == [0.4, 0.8]
    assert "5 frames of 16x24" in report and '"num_inference_steps": 2' in report
    for level in ("0.4", "0.8"):
        assert Video.load(tmp_path / "tried" / f"level-{level}.mp4").frames.shape == (5, 16, 24, 3)
        assert (tmp_path / "tried" / f"level-{level}.png").is_file()
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode != 0 and "exists already; name a new folder" in again.stderr
