"""Labels for people to correct, from images, videos and bags."""
