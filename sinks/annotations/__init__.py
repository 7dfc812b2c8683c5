"""Posts what is found in media to the Annotations service, and stores the annotations that come back."""
