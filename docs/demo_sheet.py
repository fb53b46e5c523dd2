"""Draw the demo's contact sheet as it is on a machine that names every frame.

python docs/demo_sheet.py docs/    # demo.jpg
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2

from objloc_ros import load_pipeline
from objloc_ros.cli.demo import MIN_AREA, NOUNS
from objloc_ros.cli.demo_report import SHEET_FRAMES, RecordedRun, choose_frames, make_caption, make_sheet
from objloc_ros.nodes.frame_sources import open_source

QUALITY = 80
"""Of the JPEG, in percent."""

RATE_HZ = 15
TITLE = "objloc_ros: found (tiny) and segmentation (lite_clip) on photographs"

if __name__ == "__main__":
    pipeline = load_pipeline(("clip_diy",), "tiny", "cpu", clip="lite_clip")
    pipeline.configure("clip_diy", per_region=True, min_area=MIN_AREA)
    pipeline.set_prompts([noun.strip() for noun in NOUNS.split(",")])
    frames = [frame.rgb for frame in open_source("photographs", loop=False)]
    run, drawn, captions = RecordedRun(names={0: ()}), [], []
    for number in choose_frames(range(len(frames)), SHEET_FRAMES):
        result, stamp = pipeline.run(frames[number])["clip_diy"], number * 1_000_000_000 // RATE_HZ
        run.names[stamp] = tuple(dict.fromkeys(result.detections.labels))
        drawn.append(result.draw(frames[number]))
        captions.append(make_caption(run, stamp))
    page = make_sheet(drawn, captions, TITLE)
    cv2.imwrite(str(Path(sys.argv[1]) / "demo.jpg"), page[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
