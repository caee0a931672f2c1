"""The leaf everyone imports: changes and their codec, ports, errors, settings, metrics, lifecycle. No I/O, no vendor."""
