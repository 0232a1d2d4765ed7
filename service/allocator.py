"""How the GNU C library shall deal with the memory of films, for the environment of a process."""

ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": "33554432",
    "MALLOC_TRIM_THRESHOLD_": "268435456",
    "MALLOC_ARENA_MAX": "2",
}
"""Keep the memory of one film for the next. To get it from the system anew, page by page, costs a
seventh of a request; kept are at most 256 MB that are not in use. All threads share two heaps: up
to eight a core, as they come and go, would each keep their own busiest moment, and grow for tens of
thousands of requests."""
