"""Programs that write pages, lists and pictures of this repository: python -m scripts.NAME."""
