"""Video files in and out by presentation time: the names that the other rooms use."""

from reconstruct.decode import Reader, frames, probe, read_audio
from reconstruct.encode import cut_video, write_video

__all__ = ["Reader", "cut_video", "frames", "probe", "read_audio", "write_video"]
