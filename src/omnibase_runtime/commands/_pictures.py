"""Texts inside pictures, in the languages of pictures."""


def mermaid_text(text: str) -> str:
    """Letters, digits and harmless marks stay; everything else becomes `#code;`."""
    return "".join(c if c.isalnum() or c in " _-.,·" else f"#{ord(c)};" for c in " ".join(text.split()))


def dot_text(text: str) -> str:
    """A quoted text of Graphviz, on one line."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
    return f'"{escaped}"'
