"""Launching the generated kernels: tensors in, tensors out, the settings as given, a file for each family."""
