"""Parses the headers of image formats within limits, without decoding pixels."""
