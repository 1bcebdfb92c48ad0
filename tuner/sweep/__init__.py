"""Many runs of one recipe that differ in a few keys and in their seed."""
