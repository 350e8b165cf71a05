"""Answer the frames of a camera or a stream, or the images of a folder, and print what changes.

pip install 'edgecascade[cpu,images,video]'
python camera.py local.onnx /dev/video0 http://HOST:8000/v2/models/large    # or rtsp://..., a video, or a folder
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av

from edgecascade import Cascade


def frames(source: str) -> Iterator[Any]:
    """Yield the paths of the images in a folder, or the pixels of the frames of a video, stream or camera."""
    if Path(source).is_dir():
        yield from sorted(path for path in Path(source).iterdir() if path.suffix in (".jpg", ".jpeg", ".png"))
        return
    device = "v4l2" if source.startswith("/dev/") else None  # "avfoundation" on macOS, where cameras are "0", "1", ...
    with av.open(source, format=device) as video:
        for frame in video.decode(video=0):
            yield frame.to_ndarray(format="rgb24")


def main(file: str, source: str, remote: str | None = None) -> None:
    """Answer each frame within 100 ms: longer than a frame lasts, an answer is of no use."""
    with Cascade.load(file, remote=remote, deadline=0.1) as cascade:
        before = ""
        for number, frame in enumerate(frames(source)):
            answer = cascade.predict(frame)
            if answer.name != before:
                print(f"{number}: {answer.name} {answer.confidence:.2f} ({answer.source.value}, {answer.reason.value})")
                before = answer.name
        counts = cascade.counts()
        print(f"{counts.inputs} frames, {counts.forwarded} forwarded")


if __name__ == "__main__":
    main(*sys.argv[1:])
