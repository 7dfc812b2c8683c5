"""Header parsers of the image formats frames come in: bounded, without decoding a pixel."""
