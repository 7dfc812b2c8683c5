"""Reads where the camera was during a video: DJI SRT files, GPMF of GoPro, and MISB ST 0601."""
