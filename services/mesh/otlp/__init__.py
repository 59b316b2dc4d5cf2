"""Takes the mesh's spans over OTLP, keeps the last traces, and passes them on to a collector when one is named."""
