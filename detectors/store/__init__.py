"""Publishes model versions to a store (folder, S3, LakeFS, loader service), and fetches them, checked, to a cache."""
