"""Makes the handbook Llama: a tiny model trained on models/handbook. Nothing here runs with the mesh."""
