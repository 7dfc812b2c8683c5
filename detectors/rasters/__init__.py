"""Pictures too large for memory: (Geo)TIFF files read by window, and where on the ground their pixels lie."""
