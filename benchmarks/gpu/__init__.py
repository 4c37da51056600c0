"""Ten minutes of one GPU: is it right, how fast is it, what does it wait for, how good is it."""
