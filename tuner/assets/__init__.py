"""What the package ships beside its code."""
