"""`python -m semisalt`, and what torchrun and accelerate launch start."""

from semisalt.cli import main

if __name__ == "__main__":
    main()
