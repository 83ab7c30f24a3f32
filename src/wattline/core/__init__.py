"""What everything stands on: exceptions, units, and files read with one clear sentence."""
