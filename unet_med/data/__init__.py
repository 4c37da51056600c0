"""Files in and out, data sets, and generated images."""
