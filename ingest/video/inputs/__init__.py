"""Opens files, HTTP addresses and RTSP cameras so that FFmpeg reaches nothing else."""
