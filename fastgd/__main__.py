"""``python -m fastgd`` is the ``fastgd`` command."""

from fastgd.cli import main

if __name__ == "__main__":
    main()
