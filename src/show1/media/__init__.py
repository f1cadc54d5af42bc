"""Reading and writing video files with their metadata, and contact sheets.

The functions take and give arrays of frames; `show1.Video` holds them together with frame rate and metadata.
"""

from show1.media.destination import probe_output, probe_sheet, remove_partials
from show1.media.read import read_facts, read_metadata, read_video
from show1.media.sheet import contact_sheet, save_sheet
from show1.media.write import write_video

__all__ = [
    "contact_sheet",
    "probe_output",
    "probe_sheet",
    "read_facts",
    "read_metadata",
    "read_video",
    "remove_partials",
    "save_sheet",
    "write_video",
]
