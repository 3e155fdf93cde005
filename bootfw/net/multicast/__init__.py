"""Images on sockets: each is sent to all its receivers, by frisbee's protocol."""
