"""Limits what devices may send by how far the detectors are behind; holds the settings of rates, too."""
