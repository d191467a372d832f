"""The figures that README quotes, measured again."""
