"""Takes large images that a device uploads straight into the frame store, before a frame is announced with them."""
