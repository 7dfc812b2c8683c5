"""Reads EXIF and XMP within limits, and says what it could not read or had to assume."""
