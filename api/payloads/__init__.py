"""What requests hold and what answers look like. In and Query are read, Out and Page written."""
