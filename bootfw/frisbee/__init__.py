"""Sending an image by frisbee's protocol: what receivers want, how fast it is sent, and the session. No sockets."""
