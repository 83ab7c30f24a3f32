"""Answers shown: the command line, reports and the studio."""
