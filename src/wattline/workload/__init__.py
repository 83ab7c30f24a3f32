"""What is to be done: a model laid over devices, written down as operators and bytes to hold."""
