"""The ``archive`` backend: what lies in an ISO 9660 image, a tar or a zip archive."""
