"""The frame store port and its adapters: a folder, or an S3 bucket; bytes live under their own hash."""
