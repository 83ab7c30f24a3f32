"""A site played second by second."""
