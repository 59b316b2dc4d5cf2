"""`python -m services.mesh` is `mycel`."""

from services.mesh.cli import main

if __name__ == "__main__":
    main()
