"""How the GNU C library shall deal with the memory of films, for the environment of a process."""

ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "33554432", "MALLOC_TRIM_THRESHOLD_": "268435456"}
"""Keep the memory of one film for the next. To get it from the system anew, page by page, costs a
seventh of a request; kept are at most 256 MB that are not in use."""
