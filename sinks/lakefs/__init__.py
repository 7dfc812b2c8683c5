"""Archives frames in LakeFS, or in a local folder with the same layout and commits."""
