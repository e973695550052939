"""Random tree shapes for hypothesis."""

from hypothesis import strategies as st


@st.composite
def parent_lists(draw: st.DrawFn, max_nodes: int = 12) -> tuple[int, ...]:
    """The `parents` of any `TokenTree`: siblings may have children, in any order of nodes."""
    num_nodes = draw(st.integers(1, max_nodes))
    return (-1, *(draw(st.integers(0, node - 1)) for node in range(1, num_nodes)))
