"""Parts of pages that a program makes anew."""


def with_part(text: str, start: str, end: str, made: str) -> str:
    """A page with what stands between two marks made anew; the marks stay.

    Raises:
        ValueError: The marks are not there, in this order: what lies behind would be lost.
    """
    before, found, rest = text.partition(start)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"the page has no {(end if found else start).strip()!r}")
    return before + start + made + end + after
