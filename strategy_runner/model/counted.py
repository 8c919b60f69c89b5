"""How many there are of something, in words: 1 entry, 2 entries."""


def counted(count: int, what: str) -> str:
    """`what` is one of them: record, entry, process."""
    if count == 1:
        return f"1 {what}"
    if what.endswith("y"):
        return f"{count} {what[:-1]}ies"
    return f"{count} {what}es" if what.endswith("s") else f"{count} {what}s"
