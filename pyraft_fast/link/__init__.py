"""The treaty between the serving process and its consensus child: ring, pipe and start."""
