"""Keeps data sets: in a folder, or as branches of a LakeFS repository."""
