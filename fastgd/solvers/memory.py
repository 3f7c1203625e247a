"""Dense matrices of second-order methods: whether they fit, asked before they are made."""

from __future__ import annotations


def require_memory(n_bytes: int, what: str, instead: str = "") -> None:
    """Raise an error if a matrix would not fit into the memory that is free now.

    Parameters
    ----------
    n_bytes : int
        Size of the matrix, and of what else is needed at the same time.
    what : str
        What needs it, the beginning of the message.
    instead : str, default=""
        What to use instead, the end of the message.

    Raises
    ------
    MemoryError
        Less is available.
    """
    import psutil  # takes milliseconds, and few ever ask

    available = psutil.virtual_memory().available
    if n_bytes > available:
        raise MemoryError(
            f"{what} needs {n_bytes:,} bytes ({n_bytes / 2**30:.1f} GiB) of memory, but"
            f" {available:,} are available. {instead}".rstrip()
        )
