"""A UDP port of our own: batches of datagrams, packet info and segmentation. It knows no protocol."""
