"""Text of others in a CSV file, which a spreadsheet must show and never compute."""

# What a spreadsheet takes for the beginning of a formula, the wide forms included.
FORMULA = tuple("=+-@\t\r\uff1d\uff0b\uff0d\uff20")
MARK = "\ufeff"  # Excel takes a file for UTF-8 only if it begins with it


def guard(cell: str) -> str:
    """The cell with an apostrophe before what a spreadsheet would compute; `unguard` undoes it."""
    inner = cell.lstrip("' \n")
    return f"'{cell}" if inner.startswith(FORMULA) else cell


def unguard(cell: str) -> str:
    """The cell as it was before `guard`."""
    return cell[1:] if cell.startswith("'") and guard(cell[1:]) == cell else cell
